/* SPDX-License-Identifier: Apache-2.0 */
/* MLX folders: the encodings mlx-lm writes, the config's rules, every inconsistency refused. */
#include "format/folder.h"
#include "format/mlx.h"
#include "st_files.h"
#include "test.h"

#include <stdlib.h>

#define PACKED_4_64 "l.weight U32 2 16;l.scales BF16 2 2;l.biases BF16 2 2" /* 128 values a row */
#define CONFIG_4_64 "{\"quantization\":{\"group_size\":64,\"bits\":4}}"

/* ---- goldens ---- */

/* Lines "<name> <mode> <bits> <group> <dims...>", one for each packed weight. */
static u64 check_expected(const lb_source *s, const char *golden) {
    size_t len;
    u64 n = 0;
    u8 *bytes = st_slurp(lb_test_golden(golden), &len);
    char *save = NULL, *line = strtok_r((char *)bytes, "\n", &save);
    for (; line; line = strtok_r(NULL, "\n", &save), n++) {
        char *word = NULL, *name = strtok_r(line, " ", &word), *mode = strtok_r(NULL, " ", &word);
        u32 bits = (u32)strtoul(strtok_r(NULL, " ", &word), NULL, 10);
        u32 group = (u32)strtoul(strtok_r(NULL, " ", &word), NULL, 10);
        lb_shape shape = {0};
        for (char *d; (d = strtok_r(NULL, " ", &word));)
            shape.dim[shape.rank++] = strtoull(d, NULL, 10);
        const lb_weight *w = lb_source_weight(s, lb_str_c(name));
        if (!w || !lb_mlx_mode_name(w->enc.kind) ||
            strcmp(lb_mlx_mode_name(w->enc.kind), mode) != 0 || w->enc.bits != bits ||
            w->enc.group_size != group || !lb_shape_eq(&w->shape, &shape))
            lb_test_fail(__FILE__, __LINE__, "%s", name);
    }
    lb_free(bytes);
    return n;
}

static u64 n_parts(const lb_source *s) {
    u64 n = 0;
    for (u64 i = 0; i < s->n_weights; i++)
        n += s->weights[i].n_parts;
    return n;
}

LB_TEST(every_encoding) {
    lb_err err = {0};
    lb_source *s;
    CHECK_OK(lb_folder_open(&s, lb_test_golden("st/mlx_all"), &err));
    CHECK_U64(s->format, LB_FORMAT_MLX);
    CHECK_U64(check_expected(s, "st/mlx_all.expect"), 29);
    CHECK_U64(s->n_weights, 29 + 4); /* two biases, a norm, a plain layer */
    CHECK_U64(n_parts(s), s->n_tensors);
    const lb_weight *w = lb_source_weight(s, LB_STR("default.weight"));
    CHECK(w && w->n_parts == 3 && lb_str_eq_c(s->tensors[w->part[0]].name, "default.weight"));
    CHECK(lb_str_eq_c(s->tensors[w->part[1]].name, "default.scales"));
    CHECK(lb_str_eq_c(s->tensors[w->part[2]].name, "default.biases"));
    w = lb_source_weight(s, LB_STR("experts_gs.weight"));
    CHECK(w && w->n_parts == 3 &&
          lb_str_eq_c(s->tensors[w->part[2]].name, "experts_gs.global_scale"));
    w = lb_source_weight(s, LB_STR("default.bias"));
    CHECK(w && w->enc.kind == LB_ENC_PLAIN && w->n_parts == 1 && w->shape.rank == 1);
    CHECK(!lb_source_weight(s, LB_STR("default.biases")));
    CHECK(!lb_source_weight(s, LB_STR("mxfp4.scales")));
    w = lb_source_weight(s, LB_STR("plain.weight"));
    CHECK(w && w->enc.kind == LB_ENC_PLAIN && w->shape.dim[1] == 48);
    for (u64 i = 1; i < s->n_weights; i++) /* in the order of their first part */
        CHECK(s->weights[i - 1].part[0] < s->weights[i].part[0]);
    lb_source_close(&s);
}

/* group_size null, bits null, mode missing in an entry of an nvfp4 model, all inside text_config.
 */
LB_TEST(nulls_and_text_config) {
    lb_err err = {0};
    lb_source *s;
    CHECK_OK(lb_folder_open(&s, lb_test_golden("st/mlx_null"), &err));
    CHECK_U64(s->format, LB_FORMAT_MLX);
    CHECK_U64(check_expected(s, "st/mlx_null.expect"), 7);
    CHECK_U64(n_parts(s), s->n_tensors);
    lb_source_close(&s);
}

/* ---- the config ---- */

static lb_status parse(const char *text, lb_arena *arena, lb_mlx_quant *q, lb_err *err) {
    lb_json *config;
    *q = (lb_mlx_quant){0};
    LB_TRY(lb_json_parse(lb_str_c(text), "config.json", arena, &config, err));
    return lb_mlx_quant_parse(config, arena, q, err);
}

LB_TEST(config_forms) {
    static const struct {
        const char *text;
        bool present;
        lb_enc enc;
    } list[] = {
        {"{}", false, {0}},
        {"{\"quantization\":null}", false, {0}},
        {"{\"quantization\":{}}", false, {0}},
        {"{\"quantization\":{\"quant_method\":\"fp8\",\"bits\":8}}", false, {0}},
        {"{\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":4}}", false, {0}},
        {CONFIG_4_64, true, {.kind = LB_ENC_MLX_AFFINE, .bits = 4, .group_size = 64}},
        {"{\"quantization\":{\"bits\":3}}",
         true,
         {.kind = LB_ENC_MLX_AFFINE, .bits = 3, .group_size = 64}},
        {"{\"quantization\":{\"group_size\":128.0,\"bits\":8}}",
         true,
         {.kind = LB_ENC_MLX_AFFINE, .bits = 8, .group_size = 128}},
        {"{\"quantization\":{\"group_size\":null,\"bits\":6,\"mode\":null}}",
         true,
         {.kind = LB_ENC_MLX_AFFINE, .bits = 6, .group_size = 64}},
        {"{\"quantization\":{\"mode\":\"mxfp4\"}}",
         true,
         {.kind = LB_ENC_MLX_MXFP4, .bits = 4, .group_size = 32}},
        {"{\"quantization\":{\"mode\":\"mxfp8\",\"bits\":8}}",
         true,
         {.kind = LB_ENC_MLX_MXFP8, .bits = 8, .group_size = 32}},
        {"{\"quantization\":{\"mode\":\"nvfp4\",\"group_size\":16}}",
         true,
         {.kind = LB_ENC_MLX_NVFP4, .bits = 4, .group_size = 16}},
        {"{\"quantization_config\":{\"bits\":2,\"group_size\":32}}",
         true,
         {.kind = LB_ENC_MLX_AFFINE, .bits = 2, .group_size = 32}},
        {"{\"text_config\":{\"quantization\":{\"bits\":5}}}",
         true,
         {.kind = LB_ENC_MLX_AFFINE, .bits = 5, .group_size = 64}},
        {"{\"quantization\":{\"bits\":1},\"quantization_config\":{\"bits\":2}}",
         true,
         {.kind = LB_ENC_MLX_AFFINE, .bits = 1, .group_size = 64}},
        {"[1]", false, {0}},
    };
    for (size_t i = 0; i < LB_LEN(list); i++) {
        lb_arena arena = {0};
        lb_err err = {0};
        lb_mlx_quant q;
        lb_status st = parse(list[i].text, &arena, &q, &err);
        if (st != LB_OK || q.present != list[i].present || q.enc.kind != list[i].enc.kind ||
            q.enc.bits != list[i].enc.bits || q.enc.group_size != list[i].enc.group_size)
            lb_test_fail(__FILE__, __LINE__, "%s: %s", list[i].text, err.msg);
        lb_mlx_quant_deinit(&q);
        lb_arena_deinit(&arena);
    }
}

LB_TEST(config_refusals) {
    static const struct {
        const char *text;
        lb_status code;
        const char *says;
    } list[] = {
        {"{\"quantization\":{\"mode\":\"turbo\"}}", LB_E_UNSUPPORTED, "mode 'turbo' of all layers"},
        {"{\"quantization\":{\"mode\":4}}", LB_E_FORMAT, "mode of all layers is not a string"},
        {"{\"quantization\":{\"bits\":7}}", LB_E_UNSUPPORTED, "7 bits in groups of 64"},
        {"{\"quantization\":{\"bits\":4,\"group_size\":16}}", LB_E_UNSUPPORTED, "groups of 16"},
        {"{\"quantization\":{\"bits\":0}}", LB_E_UNSUPPORTED, "0 bits"},
        {"{\"quantization\":{\"bits\":4294967300}}", LB_E_UNSUPPORTED, "4294967300 bits"},
        {"{\"quantization\":{\"bits\":\"4\"}}", LB_E_FORMAT,
         "bits of all layers is not a whole number"},
        {"{\"quantization\":{\"bits\":-4}}", LB_E_FORMAT, "not a whole number"},
        {"{\"quantization\":{\"bits\":4.5}}", LB_E_FORMAT, "not a whole number"},
        {"{\"quantization\":{\"bits\":4,\"group_size\":[]}}", LB_E_FORMAT, "group_size"},
        {"{\"quantization\":{\"mode\":\"mxfp4\",\"bits\":8}}", LB_E_UNSUPPORTED,
         "mxfp4 with 8 bits"},
        {"{\"quantization\":{\"mode\":\"nvfp4\",\"group_size\":32}}", LB_E_UNSUPPORTED, "nvfp4"},
        {"{\"quantization\":{\"bits\":4,\"a.b\":{\"mode\":\"x\"}}}", LB_E_UNSUPPORTED,
         "'x' of a.b"},
        {"{\"quantization\":{\"bits\":4,\"a.b\":{\"bits\":9}}}", LB_E_UNSUPPORTED, "(a.b)"},
    };
    for (size_t i = 0; i < LB_LEN(list); i++) {
        lb_arena arena = {0};
        lb_err err = {0};
        lb_mlx_quant q;
        lb_status st = parse(list[i].text, &arena, &q, &err);
        if (st != list[i].code || !strstr(err.msg, list[i].says))
            lb_test_fail(__FILE__, __LINE__, "%s: %d \"%s\"", list[i].text, (int)st, err.msg);
        lb_mlx_quant_deinit(&q);
        lb_arena_deinit(&arena);
    }
}

/* ---- tensors against the config ---- */

static lb_status open_made(lb_source **s, const char *config, const char *tensors, lb_err *err) {
    const char *dir = st_dir("made");
    st_text(dir, "config.json", config);
    st_file(dir, "model.safetensors", "mlx", tensors);
    return lb_folder_open(s, dir, err);
}

LB_TEST(shapes_that_agree) {
    static const struct {
        const char *config, *tensors;
        lb_enc enc;
        u64 in;
    } list[] = {
        {CONFIG_4_64, PACKED_4_64, {.kind = LB_ENC_MLX_AFFINE, .bits = 4, .group_size = 64}, 128},
        {CONFIG_4_64,
         "l.weight U32 0 16;l.scales F16 0 2;l.biases F16 0 2",
         {.kind = LB_ENC_MLX_AFFINE, .bits = 4, .group_size = 64},
         128},
        {CONFIG_4_64,
         "l.weight U32 2 3 16;l.scales F32 2 3 2;l.biases F32 2 3 2",
         {.kind = LB_ENC_MLX_AFFINE, .bits = 4, .group_size = 64},
         128},
        /* not named, the default does not fit: what the shapes leave possible */
        {"{\"quantization\":{\"mode\":\"mxfp4\"}}",
         "l.weight U32 2 16;l.scales U8 2 2",
         {.kind = LB_ENC_MLX_MXFP8, .bits = 8, .group_size = 32},
         64},
        {"{\"quantization\":{\"mode\":\"mxfp4\"}}",
         "l.weight U32 2 16;l.scales U8 2 8",
         {.kind = LB_ENC_MLX_NVFP4, .bits = 4, .group_size = 16},
         128},
        {CONFIG_4_64,
         "l.weight U32 2 16;l.scales U8 2 4",
         {.kind = LB_ENC_MLX_MXFP4, .bits = 4, .group_size = 32},
         128},
        {CONFIG_4_64,
         "l.weight U32 2 3;l.scales BF16 2 1;l.biases BF16 2 1",
         {.kind = LB_ENC_MLX_AFFINE, .bits = 3, .group_size = 32},
         32},
        {CONFIG_4_64,
         "l.weight U32 2 32;l.scales BF16 2 1;l.biases BF16 2 1",
         {.kind = LB_ENC_MLX_AFFINE, .bits = 8, .group_size = 128},
         128},
        {"{\"quantization\":{\"bits\":4,\"l\":{\"bits\":8,\"group_size\":32}}}",
         PACKED_4_64,
         {.kind = LB_ENC_MLX_AFFINE, .bits = 8, .group_size = 32},
         64},
        {"{\"quantization\":{\"bits\":4,\"l\":true}}",
         PACKED_4_64,
         {.kind = LB_ENC_MLX_AFFINE, .bits = 4, .group_size = 64},
         128},
        {"{\"quantization\":{\"mode\":\"nvfp4\"}}",
         "l.weight U32 2 8;l.scales U8 2 4;l.global_scale F32",
         {.kind = LB_ENC_MLX_NVFP4, .bits = 4, .group_size = 16},
         64},
        {"{\"quantization\":{\"mode\":\"nvfp4\"}}",
         "l.weight U32 3 2 8;l.scales U8 3 2 4;l.global_scale F32 3",
         {.kind = LB_ENC_MLX_NVFP4, .bits = 4, .group_size = 16},
         64},
    };
    for (size_t i = 0; i < LB_LEN(list); i++) {
        lb_err err = {0};
        lb_source *s;
        lb_status st = open_made(&s, list[i].config, list[i].tensors, &err);
        const lb_weight *w = st == LB_OK ? lb_source_weight(s, LB_STR("l.weight")) : NULL;
        if (!w || s->n_weights != 1 || w->enc.kind != list[i].enc.kind ||
            w->enc.bits != list[i].enc.bits || w->enc.group_size != list[i].enc.group_size ||
            w->shape.dim[w->shape.rank - 1] != list[i].in)
            lb_test_fail(__FILE__, __LINE__, "%s %s: %s", list[i].config, list[i].tensors, err.msg);
        lb_source_close(&s);
    }
}

LB_TEST(shapes_that_disagree) {
    static const struct {
        const char *config, *tensors, *says;
    } list[] = {
        {"{}", PACKED_4_64, "'l.weight' is packed (u32 with scales), but config.json has no"},
        {CONFIG_4_64, "l.weight U32 2 16", "'l.scales' is missing"},
        {CONFIG_4_64, "l.weight U32 2 16;l.scales BF16 2 2", "'l.biases' is missing"},
        {CONFIG_4_64, "l.weight U32 2 16;l.scales BF16 2 2;l.biases BF16 2 3",
         "'l.biases' bf16 [2, 3]"},
        {CONFIG_4_64, "l.weight U32 2 16;l.scales BF16 2 2;l.biases F16 2 2",
         "type and shape of the scales"},
        {CONFIG_4_64, "l.weight U32 2 16;l.scales BF16 3 2;l.biases BF16 3 2",
         "all dimensions but the last"},
        {CONFIG_4_64, "l.weight U32 2 16;l.scales BF16 2;l.biases BF16 2",
         "all dimensions but the last"},
        {CONFIG_4_64, "l.weight U32 16;l.scales BF16 2;l.biases BF16 2", "2 or more"},
        {CONFIG_4_64, "l.weight U32 2 16;l.scales BF16 2 3;l.biases BF16 2 3",
         "config.json says affine, 4 bits, group 64"},
        {CONFIG_4_64, "l.weight U32 2 16;l.scales BF16 2 0;l.biases BF16 2 0", "config.json says"},
        {CONFIG_4_64, "l.weight U32 2 16;l.scales I32 2 2;l.biases I32 2 2", "config.json says"},
        {CONFIG_4_64, "l.weight U32 2 16;l.scales BF16 2 1;l.biases BF16 2 1",
         "more than one width"},
        {"{\"quantization\":{\"bits\":4,\"l\":{\"bits\":8}}}", PACKED_4_64,
         "config.json says affine, 8 bits, group 64"},
        {"{\"quantization\":{\"bits\":4,\"l\":false}}", PACKED_4_64, "says false for this layer"},
        {"{\"quantization\":{\"bits\":4,\"l\":{\"bits\":4}}}", "l.weight BF16 2 16",
         "is bf16, but config.json says it is quantized"},
        {CONFIG_4_64, "l.weight BF16 2 16;l.scales BF16 2 2", "scales belong to a packed"},
        {"{\"quantization\":{\"mode\":\"mxfp4\"}}",
         "l.weight U32 2 16;l.scales U8 2 4;l.biases BF16 2 4", "only affine"},
        {"{\"quantization\":{\"mode\":\"mxfp4\"}}",
         "l.weight U32 2 16;l.scales U8 2 4;l.global_scale F32", "only nvfp4"},
        {"{\"quantization\":{\"mode\":\"nvfp4\"}}",
         "l.weight U32 2 8;l.scales U8 2 4;l.global_scale BF16", "not f32"},
        {"{\"quantization\":{\"mode\":\"nvfp4\"}}",
         "l.weight U32 3 2 8;l.scales U8 3 2 4;l.global_scale F32 2", "one value a matrix"},
        {"{\"quantization\":{\"bits\":4,\"l\":{\"mode\":\"nvfp4\",\"global_scale\":true}}}",
         "l.weight U32 2 8;l.scales U8 2 4", "'l.global_scale' is missing"},
    };
    for (size_t i = 0; i < LB_LEN(list); i++) {
        lb_err err = {0};
        lb_source *s;
        lb_status st = open_made(&s, list[i].config, list[i].tensors, &err);
        if (st != LB_E_FORMAT || !strstr(err.msg, list[i].says))
            lb_test_fail(__FILE__, __LINE__, "%s %s: %d \"%s\"", list[i].config, list[i].tensors,
                         (int)st, err.msg);
        lb_source_close(&s);
    }
}

/* Names that only look like companions are weights of their own. */
LB_TEST(lookalikes) {
    lb_err err = {0};
    lb_source *s;
    CHECK_OK(open_made(&s, CONFIG_4_64,
                       PACKED_4_64
                       ";router.scales BF16 4;x.biases F32 2;y.global_scale F32;counts U32 3;"
                       ".scales BF16 1;l.bias BF16 2",
                       &err));
    CHECK_U64(s->n_weights, 7);
    CHECK(lb_source_weight(s, LB_STR("router.scales")) && lb_source_weight(s, LB_STR("x.biases")));
    CHECK(lb_source_weight(s, LB_STR("y.global_scale")) && lb_source_weight(s, LB_STR("counts")));
    CHECK(lb_source_weight(s, LB_STR("l.bias")) && !lb_source_weight(s, LB_STR("l.scales")));
    lb_source_close(&s);
}

/* A folder that MLX's config describes, whatever wrote the file. */
LB_TEST(mlx_by_config_alone) {
    lb_err err = {0};
    lb_source *s;
    const char *dir = st_dir("pt");
    st_text(dir, "config.json", CONFIG_4_64);
    st_file(dir, "model.safetensors", "pt", PACKED_4_64);
    CHECK_OK(lb_folder_open(&s, dir, &err));
    CHECK_U64(s->format, LB_FORMAT_MLX);
    lb_source_close(&s);
}

LB_TEST(allocation_failures) {
    char path[512];
    lb_status st = LB_E_NOMEM;
    (void)snprintf(path, sizeof path, "%s", lb_test_golden("st/mlx_all"));
    for (u64 n = 1; st != LB_OK; n++) {
        lb_err err = {0};
        lb_source *s;
        lb_mem_fail_at(n);
        st = lb_folder_open(&s, path, &err);
        lb_mem_fail_at(0);
        CHECK((st == LB_OK) == (s != NULL));
        CHECK(st == LB_OK || (st == LB_E_NOMEM && err.msg[0]));
        CHECK(n < 5000);
        lb_source_close(&s);
    }
}

LB_TEST_MAIN("fast")
