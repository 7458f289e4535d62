/* SPDX-License-Identifier: Apache-2.0 */
/* Models quantized by other tools: the values of the makers' own code (tests/golden/foreign), every
 * inconsistency refused by name. */
#include "base/cpu.h"
#include "base/os.h"
#include "format/folder.h"
#include "ops/values.h"
#include "st_files.h"
#include "tensor/four_bit.h"
#include "test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static bool same_values(u64 n, const float *a, const float *b, const char *who) {
    for (u64 i = 0; i < n; i++)
        if (lb_f32_bits(a[i]) != lb_f32_bits(b[i]) && !(isnan(a[i]) && isnan(b[i]))) {
            lb_test_fail(__FILE__, __LINE__, "%s: value %llu is %a, expected %a", who,
                         (unsigned long long)i, (double)a[i], (double)b[i]);
            return false;
        }
    return true;
}

/* A whole weight in tiles of so many rows and columns; *result is freed with free. */
static void decode(const lb_source *s, const lb_weight *w, u64 tile_rows, u64 tile_cols,
                   float **result) {
    lb_values v;
    lb_fds *fds = NULL;
    lb_err err = {0};
    lb_kernels k;
    lb_kernels_init(&k, lb_cpu_isa());
    CHECK_OK(lb_values_init(&v, s, w, &err));
    CHECK_OK(lb_fds_new(&fds, s->files, s->n_files, 4, &err));
    lb_values_cut cut = {.n_rows = v.n_rows,
                         .n_cols = v.n_cols,
                         .tile_rows = tile_cols < v.n_cols ? 1 : tile_rows,
                         .tile_cols = tile_cols};
    float *out = *result = malloc((v.n_rows * v.n_cols + 1) * sizeof *out);
    u8 *scratch = aligned_alloc(64, (lb_values_scratch_bytes(&v, &cut) + 63) & ~(size_t)63);
    lb_values_io io = {fds, &k, scratch};
    for (u64 r = 0; r < v.n_rows; r += cut.tile_rows)
        for (u64 c = 0; c < v.n_cols; c += tile_cols) {
            lb_values_tile t = {r, LB_MIN(cut.tile_rows, v.n_rows - r), c,
                                LB_MIN(tile_cols, v.n_cols - c)};
            CHECK_OK(lb_values_read(&v, &io, &t, out + r * v.n_cols + c, &err));
        }
    free(scratch);
    lb_fds_free(&fds);
}

/* Every weight of a golden folder, in whole and in odd tiles. */
static void check_folder(const char *name, u64 n_weights) {
    static const u64 tiles[][2] = {{1000, 1000}, {7, 1000}, {1, 1000}, {1, 13}, {1, 1}};
    lb_err err = {0};
    lb_source *s = NULL, *e = NULL;
    char path[64];
    snprintf(path, sizeof path, "foreign/%s", name);
    CHECK_OK(lb_folder_open(&s, lb_test_golden(path), &err));
    snprintf(path, sizeof path, "foreign/%s/expect", name);
    CHECK_OK(lb_folder_open(&e, lb_test_golden(path), &err));
    if (!s || !e) {
        lb_test_fail(__FILE__, __LINE__, "%s: %s", name, err.msg);
        return;
    }
    CHECK_U64(s->n_weights, n_weights);
    CHECK_U64(e->n_weights, n_weights);
    for (u64 i = 0; i < e->n_weights; i++) {
        const lb_weight *w = lb_source_weight(s, e->weights[i].name);
        float *want = NULL, *got = NULL;
        decode(e, &e->weights[i], 1000, 1000, &want);
        u64 n = e->tensors[e->weights[i].part[0]].n_elems;
        CHECK(w && lb_shape_eq(&w->shape, &e->weights[i].shape));
        for (size_t t = 0; w && t < LB_LEN(tiles); t++) {
            decode(s, w, tiles[t][0], LB_MIN(tiles[t][1], w->shape.dim[w->shape.rank - 1]), &got);
            if (!same_values(n, got, want, w->name.ptr))
                t = LB_LEN(tiles);
            free(got);
        }
        free(want);
    }
    lb_source_close(&s);
    lb_source_close(&e);
}

LB_TEST(fp8) {
    check_folder("fp8_block", 4);
    check_folder("fp8_rows", 3);
}

LB_TEST(compressed_tensors) {
    check_folder("ct_float", 5);
    check_folder("ct_int", 5);
    check_folder("ct_packed", 21);
    check_folder("ct_fp4", 4);
    check_folder("ct_mxfp8", 1);
    check_folder("ct_order", 5);
}

LB_TEST(gptq) {
    check_folder("gptq_v1", 35);
    check_folder("gptq_v2", 35);
    check_folder("gptq_old", 2);
}

LB_TEST(awq) {
    check_folder("awq", 5);
    check_folder("awq_old", 5);
}

LB_TEST(bitsandbytes) {
    check_folder("bnb", 22);
}

LB_TEST(modelopt) {
    check_folder("modelopt_mixed", 5);
    check_folder("modelopt_nvfp4", 2);
}

#define MXFP4 "{\"quantization_config\":{\"quant_method\":\"mxfp4\"}}"

/* Any scale: 2^(s - 127), and all codes; values by the definition. */
LB_TEST(mxfp4) {
    static const float e2m1[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    const char *dir = st_dir("mxfp4");
    lb_err err = {0};
    lb_source *s = NULL;
    float *got = NULL;
    st_text(dir, "config.json", MXFP4);
    st_file(dir, "model.safetensors", "pt", "l_blocks U8 2 4 3 16;l_scales U8 2 4 3");
    CHECK_OK(lb_folder_open(&s, dir, &err));
    u8 part[2][384];
    FILE *f = fopen(s->files[0].path, "r+b");
    for (u32 p = 0; p < 2; p++) {
        const lb_tensor *t = lb_source_tensor(s, p ? LB_STR("l_scales") : LB_STR("l_blocks"));
        CHECK(f && t && t->size_bytes <= sizeof part[p]);
        for (u64 i = 0; i < t->size_bytes; i++)
            part[p][i] = (u8)lb_test_rand();
        CHECK(fseek(f, (long)t->off_bytes, SEEK_SET) == 0 &&
              fwrite(part[p], 1, t->size_bytes, f) == t->size_bytes);
    }
    CHECK(fclose(f) == 0);
    lb_source_close(&s);
    CHECK_OK(lb_folder_open(&s, dir, &err));
    const lb_weight *w = lb_source_weight(s, LB_STR("l_blocks"));
    CHECK(w && w->n_parts == 2 && w->shape.rank == 3 && w->shape.dim[2] == 96);
    decode(s, w, 3, 96, &got);
    for (u32 i = 0; i < 768; i++) {
        u32 code = part[0][i / 2] >> i % 2 * 4 & 15;
        float want = ldexpf(e2m1[code & 7], part[1][i / 32] - 127) * (code & 8 ? -1.0f : 1.0f);
        if (part[1][i / 32] != 255)
            CHECK(lb_f32_bits(got[i]) == lb_f32_bits(want));
    }
    free(got);
    lb_source_close(&s);
}

#define FP8_STACK "{\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":[4,8]}}"

/* Experts in one tensor; blocks are cut where a matrix ends. */
LB_TEST(fp8_stack) {
    const char *dir = st_dir("stack");
    lb_err err = {0};
    lb_source *s = NULL;
    float *got = NULL, scale[3 * 2 * 3];
    u8 code[3 * 6 * 20];
    st_text(dir, "config.json", FP8_STACK);
    st_file(dir, "model.safetensors", "pt",
            "e.down_proj F8_E4M3 3 6 20;e.down_proj_scale_inv F32 3 2 3");
    CHECK_OK(lb_folder_open(&s, dir, &err));
    const lb_tensor *codes = lb_source_tensor(s, LB_STR("e.down_proj"));
    const lb_tensor *scales = lb_source_tensor(s, LB_STR("e.down_proj_scale_inv"));
    FILE *f = fopen(s->files[0].path, "r+b");
    for (size_t i = 0; i < LB_LEN(scale); i++)
        scale[i] = (float)(1 + lb_test_rand() % 100);
    for (size_t i = 0; i < LB_LEN(code); i++)
        code[i] = (u8)(0x38 + 8 * (lb_test_rand() % 4)); /* 1, 2, 4, 8 */
    CHECK(f && fseek(f, (long)scales->off_bytes, SEEK_SET) == 0 &&
          fwrite(scale, sizeof scale, 1, f) == 1);
    CHECK(fseek(f, (long)codes->off_bytes, SEEK_SET) == 0 && fwrite(code, sizeof code, 1, f) == 1);
    CHECK(fclose(f) == 0);
    lb_source_close(&s);
    CHECK_OK(lb_folder_open(&s, dir, &err));
    const lb_weight *w = lb_source_weight(s, LB_STR("e.down_proj"));
    CHECK(w && w->n_parts == 2 && w->shape.rank == 3);
    static const u64 tiles[][2] = {{18, 20}, {5, 20}, {1, 7}};
    for (size_t t = 0; t < LB_LEN(tiles); t++) {
        decode(s, w, tiles[t][0], tiles[t][1], &got);
        for (u32 i = 0; i < LB_LEN(code); i++) {
            u32 e = i / 120, r = i / 20 % 6, c = i % 20;
            float want = scale[e * 6 + r / 4 * 3 + c / 8] * (float)(1u << (code[i] - 0x38) / 8);
            CHECK(got[i] == want);
        }
        free(got);
    }
    lb_source_close(&s);
}

/* ---- refusals ---- */

#define FP8(rest) "{\"quantization_config\":{\"quant_method\":\"fp8\"" rest "}}"
#define CT(format, weights)                                                                  \
    "{\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"format\":\"" format \
    "\",\"config_groups\":{\"g\":{\"weights\":{" weights "}}}}}"
#define NVFP4 "\"num_bits\":4,\"type\":\"float\",\"group_size\":16,\"strategy\":\"tensor_group\""
#define FLOAT8 "\"num_bits\":8,\"type\":\"float\",\"group_size\":32,\"strategy\":\"group\""
#define INT4 "\"num_bits\":4,\"type\":\"int\",\"group_size\":32,\"strategy\":\"group\""

static void refused(const char *config, const char *tensors, const char *want) {
    const char *dir = st_dir("refused");
    lb_err err = {0};
    lb_source *s = NULL;
    st_text(dir, "config.json", config);
    st_file(dir, "model.safetensors", "pt", tensors);
    if (lb_folder_open(&s, dir, &err) == LB_OK || !strstr(err.msg, want))
        lb_test_fail(__FILE__, __LINE__, "%s\n    %s\n    said \"%s\", expected \"%s\"", config,
                     tensors, err.msg, want);
    lb_source_close(&s);
}

/* What a folder holds beside codes: n weights of it become the model's. */
static void opens(const char *config, const char *tensors, u64 n_weights) {
    const char *dir = st_dir("opens");
    lb_err err = {0};
    lb_source *s = NULL;
    st_text(dir, "config.json", config);
    st_file(dir, "model.safetensors", "pt", tensors);
    if (lb_folder_open(&s, dir, &err) != LB_OK || s->n_weights != n_weights)
        lb_test_fail(__FILE__, __LINE__, "%s\n    %s\n    said \"%s\", %llu weights", config,
                     tensors, err.msg, s ? (unsigned long long)s->n_weights : 0);
    lb_source_close(&s);
}

LB_TEST(refusals) {
    refused(FP8(""), "l.weight F8_E4M3 4 4", "has no weight_scale_inv");
    refused(FP8(""), "l.weight F8_E4M3 4 4;l.weight_scale_inv F32 3", "nor one for each row");
    refused(FP8(""), "l.weight F8_E4M3 4 4;l.weight_scale_inv I32 4", "must be floats");
    refused(FP8(""), "l.weight F8_E4M3 2 4 4;l.weight_scale_inv F32 4", "expected a matrix");
    refused(FP8(",\"weight_block_size\":[2,0]"), "l.weight F8_E4M3 4 4", "two sizes");
    refused(FP8(",\"weight_block_size\":[2,2]"), "l.weight F8_E4M3 5 4;l.weight_scale_inv F32 2 2",
            "for each block");
    refused(FP8(""), "l.weight I8 4 4;l.weight_scale_inv F32 4", "'l.weight' (i8)");
    refused(FP8(""), "l.weight BF16 4 4;l.weight_scale_inv F32 4", "'l.weight_scale_inv'");
    refused(CT("mxfp6-pack-quantized", INT4), "l.weight BF16 4 4", "mxfp6-pack-quantized");
    refused(CT("mxfp8-quantized", FLOAT8), "l.weight F8_E4M3 4 64;l.weight_scale U8 4 3",
            "none of the");
    refused(CT("int-quantized", INT4), "l.weight I8 4 64;l.weight_scale U8 4 2", "must be floats");
    refused(CT("nvfp4-pack-quantized", INT4), "l.weight_packed U8 4 16;l.weight_scale F8_E4M3 4 2",
            "none of the");
    refused(CT("nvfp4-pack-quantized", NVFP4), "l.weight_packed U8 4 16;l.weight_scale F8_E4M3 4 2",
            "none of the");
    refused(CT("nvfp4-pack-quantized", NVFP4),
            "l.weight_packed U8 4 16;l.weight_scale F8_E4M3 4 2;l.weight_global_scale BF16 1",
            "expected one f32");
    refused(CT("nvfp4-pack-quantized", NVFP4),
            "l.weight_packed U8 4 12;l.weight_scale F8_E4M3 4 2;l.weight_global_scale F32 1",
            "none of the");
    refused(CT("float-quantized", "\"num_bits\":4,\"type\":\"float\",\"strategy\":\"tensor\""),
            "l.weight BF16 4 4", "the strategy");
    refused(CT("pack-quantized", "\"num_bits\":9"), "l.weight BF16 4 4", "type of weights");
    refused(CT("pack-quantized", INT4), "l.weight_packed I32 4 4;l.weight_scale BF16 4 1",
            "weight_shape' is missing");
    refused(CT("pack-quantized", INT4), /* the shape's data are zeros */
            "l.weight_packed I32 4 4;l.weight_scale BF16 4 1;l.weight_shape I64 2",
            "rows and columns");
    refused(CT("int-quantized", INT4), "l.weight I8 4 64;l.weight_scale BF16 4 3", "none of the");
    refused(CT("int-quantized", INT4),
            "l.weight I8 4 64;l.weight_scale BF16 4 2;l.weight_g_idx I64 64", "for each column");
    refused(CT("int-quantized", INT4),
            "l.weight I8 4 64;l.weight_scale BF16 4 2;l.weight_g_idx I32 4", "for each column");
    refused(CT("int-quantized", "\"num_bits\":8,\"strategy\":\"channel\""),
            "l.weight I8 4 64;l.weight_scale BF16 4 1;l.weight_g_idx I32 64", "no groups");
    refused(CT("float-quantized", FLOAT8),
            "l.weight F8_E4M3 4 64;l.weight_scale BF16 4 2;l.weight_g_idx I32 64", "no groups");
}

LB_TEST(unknown_methods) {
    static const char *const methods[] = {"quip", "hqq", "auto-round", "aqlm", "gptq_next", "GPTQ",
                                          "nvfp4", "", "bitsandbytes2", "fp",
                                          /* the others that transformers 5.24 knows */
                                          "bitnet", "eetq", "fouroversix", "fp_quant", "gemma",
                                          "gguf", "higgs", "metal", "quanto", "quark", "sinq",
                                          "spqr", "torchao", "vptq", "bitsandbytes_4bit",
                                          "bitsandbytes_8bit", "exl2", "exl3"};
    for (size_t i = 0; i < LB_LEN(methods); i++) {
        char config[128], says[32];
        snprintf(config, sizeof config, "{\"quantization_config\":{\"quant_method\":\"%s\"}}",
                 methods[i]);
        snprintf(says, sizeof says, "quantized with '%s'", methods[i]);
        refused(config, "l.weight BF16 4 4", says);
    }
}

/* The config is silent, or somewhere else: the tensors tell. */
LB_TEST(codes_without_config) {
    static const char *const tensors[] = {
        "l.q_weight I32 4 4;l.q_scale I32 4 1",
        "l.trellis I16 4 4 16;l.suh F16 64",
        "l.W_q U8 4 64;l.scale F16 64 1;l.zero F16 64 1",
        "l.codes I8 4 8 1;l.codebooks F16 1 256 1 8",
        "l.Qidxs I64 4 4",
        "l.centroids.weight F16 1 16;l.indices I16 4",
        "l.dense_weights I32 4 4",
        "l.weight I16 4 4;l.tables2 F16 16 1",
        "l.weight._data I8 4 4;l.weight._scale F16 4 1",
        "l._weight_qdata I8 4 4;l._weight_scale F16 4 1",
        "l.weight I8 4 4;l.weight_scales F16 4",
        "l.weight F8_E4M3 4 4;l.scale F32 1 1",
        "l.weight F8_E4M3 4 4;l.scales F32 4",
        "l.weight F8_E4M3 4 4;l.scale_inv F32 1 1",
        "l.weight F8_E4M3 4 4;l.scale_weight F32",
        "l.weight F8_E4M3 4 4;l.qscale_weight F32 4",
    };
    for (size_t i = 0; i < LB_LEN(tensors); i++)
        refused("{}", tensors[i], "quantized by another tool");
    refused("{}", "l.weight I8 4 4", "'l.weight' is i8: codes");
    refused("{}", "l.weight I32 4 4", "'l.weight' is i32: codes");
    refused("{}", "l.weight U8 8 1", "'l.weight' is u8: codes");
    refused("{\"a\":{\"b\":{\"quantization_config\":{\"quant_method\":\"aqlm\"}}}}",
            "l.weight BF16 4 4", "quantized with 'aqlm'");
    refused("{\"quantization_config\":\"fp8\"}", "l.weight BF16 4 4", "'no object'");
    refused("{\"quantization_config\":[\"fp8\"]}", "l.weight BF16 4 4", "'no object'");
    opens("{\"quantization_config\":null}", "l.weight BF16 4 4", 1);
    opens("{\"quantization_config\":{}}", "l.weight F8_E4M3 4 4", 1);
    opens("{}", "l.bias I8 4 4;l.weight BF16 4 4;l.scale F32 4", 3); /* GPT-2's masks */
}

LB_TEST(fp8_blocks_unsaid) {
    opens(FP8(""), "l.weight F8_E4M3 200 300;l.weight_scale_inv F32 2 3", 1);
    opens(FP8(""), "e.w F8_E4M3 3 200 300;e.w_scale_inv F32 3 2 3", 1);
    refused(FP8(",\"weight_block_size\":null"),
            "l.weight F8_E4M3 200 300;l.weight_scale_inv F32 2 3", "nor one for each row");
    opens("{\"quantization_config\":{\"quant_method\":\"mxfp8\"}}",
          "l.weight F8_E4M3 4 64;l.weight_scale_inv U8 4 2", 1);
    refused("{\"quantization_config\":{\"quant_method\":\"mxfp8\"}}",
            "l.weight F8_E4M3 4 64;l.weight_scale_inv U8 2 4", "for each block");
}

#define Q(method, rest) "{\"quantization_config\":{\"quant_method\":\"" method "\"," rest "}}"
#define GPTQ4(rest) Q("gptq", "\"bits\":4,\"group_size\":32" rest)
/* 64 inputs, 32 outputs, 2 groups */
#define GPTQ4_LAYER "l.qweight I32 8 32;l.scales F16 2 32;l.qzeros I32 2 4"

LB_TEST(refusals_gptq) {
    static const struct {
        const char *config, *tensors, *says;
    } list[] = {
        {Q("gptq", "\"group_size\":32"), GPTQ4_LAYER, "without bits"},
        {Q("gptq", "\"bits\":5"), GPTQ4_LAYER, "5 bits are not supported"},
        {Q("gptq", "\"bits\":\"4\""), GPTQ4_LAYER, "not a number"},
        {Q("gptq", "\"bits\":4,\"group_size\":0"), GPTQ4_LAYER, "neither -1 nor a size"},
        {Q("gptq", "\"bits\":4,\"group_size\":-2"), GPTQ4_LAYER, "neither -1 nor a size"},
        {GPTQ4(",\"checkpoint_format\":\"marlin\""), GPTQ4_LAYER, "'marlin'"},
        {GPTQ4(",\"checkpoint_format\":\"gptq_p\""), GPTQ4_LAYER, "'gptq_p'"},
        {GPTQ4(",\"checkpoint_format\":2"), GPTQ4_LAYER, "'checkpoint_format' is not a name"},
        {GPTQ4(",\"is_marlin_format\":true"), GPTQ4_LAYER, "'marlin'"},
        {GPTQ4(",\"pack_dtype\":\"int16\""), GPTQ4_LAYER, "words of int16"},
        {GPTQ4(",\"desc_act\":true"), GPTQ4_LAYER, "'l.g_idx' is missing"},
        {GPTQ4(",\"dynamic\":[1]"), GPTQ4_LAYER, "dynamic"},
        {GPTQ4(",\"dynamic\":{\"+:l\":{\"bits\":6}}"), GPTQ4_LAYER, "6 bits"},
        {GPTQ4(",\"dynamic\":{\"l\":{\"format\":\"gguf\"}}"), GPTQ4_LAYER, "'format' in a rule"},
        {GPTQ4(""), "l.qweight I32 8 32;l.scales F16 2 32", "'l.qzeros' is missing"},
        {GPTQ4(""), "l.qweight I32 8 32;l.qzeros I32 2 4", "'l.scales' is missing"},
        {GPTQ4(""), "l.qweight I32 8 32;l.scales F16 2 32;l.qzeros I32 2 8", "which the config"},
        {GPTQ4(""), "l.qweight I32 8 32;l.scales F16 2 32;l.qzeros I32 1 4", "as many rows"},
        {GPTQ4(""), "l.qweight I32 8 32;l.scales F16 4 32;l.qzeros I32 4 4", "no such groups"},
        {GPTQ4(""), "l.qweight I32 8 32;l.scales F16 2 16;l.qzeros I32 2 4", "for each output"},
        {GPTQ4(""), "l.qweight I32 8 32;l.scales F16 2 32;l.qzeros I32 2 5", "whole words"},
        {GPTQ4(""), "l.qweight I32 8 20;l.scales F16 2 20;l.qzeros I32 2 3", "whole words"},
        {GPTQ4(""), "l.qweight I32 0 32;l.scales F16 0 32;l.qzeros I32 0 4", "nothing in it"},
        {GPTQ4(""), "l.qweight U32 8 32;l.scales F16 2 32;l.qzeros I32 2 4", "i32 words"},
        {GPTQ4(""), "l.qweight I32 8 32;l.scales I32 2 32;l.qzeros I32 2 4", "rows of floats"},
        {GPTQ4(""), GPTQ4_LAYER ";l.g_idx I32 63", "an i32 for each input"},
        {GPTQ4(""), GPTQ4_LAYER ";l.g_idx I64 64", "an i32 for each input"},
        {GPTQ4(""), GPTQ4_LAYER ";m.g_idx I32 64", "'m.g_idx' (i32)"},
        {GPTQ4(""), GPTQ4_LAYER ";m.weight I8 4 4", "'m.weight' (i8)"},
        {GPTQ4(""), "l.weight BF16 4 4", "no tensor has codes"},
        {GPTQ4(",\"dynamic\":{\"x\":{\"group_size\":48}}"), GPTQ4_LAYER,
         "more than one group size"},
        /* the layout of the other one */
        {GPTQ4(""), "l.qweight I32 64 4;l.scales F16 2 32;l.qzeros I32 2 4", "not whole words"},
        {Q("awq", "\"bits\":4,\"group_size\":32"), GPTQ4_LAYER, "as many words in a row"},
        {Q("awq", "\"bits\":3,\"group_size\":32"), GPTQ4_LAYER, "3 bits"},
        {Q("awq", "\"bits\":4,\"version\":\"gemv\""), GPTQ4_LAYER, "'gemv'"},
        {Q("awq", "\"bits\":4,\"version\":\"gemv_fast\""), GPTQ4_LAYER, "'gemv_fast'"},
        {Q("awq", "\"bits\":4,\"version\":\"marlin\""), GPTQ4_LAYER, "'marlin'"},
        {Q("awq", "\"bits\":4,\"backend\":\"llm-awq\""), GPTQ4_LAYER, "'llm-awq'"},
        {Q("awq", "\"bits\":4,\"group_size\":48"),
         "l.qweight I32 64 4;l.scales F16 2 32;l.qzeros I32 2 4", "do not divide"},
    };
    for (size_t i = 0; i < LB_LEN(list); i++)
        refused(list[i].config, list[i].tensors, list[i].says);
}

/* A table that names a group that is not there: found when it is read, whoever reads. */
static void out_of_range(const char *config, const char *tensors, const char *name) {
    static const u32 bad[] = {2, 0x7fffffff, 0x80000000u, 0xffffffffu};
    const char *dir = st_dir("range");
    st_text(dir, "config.json", config);
    for (size_t i = 0; i < LB_LEN(bad); i++) {
        lb_source *s = NULL;
        lb_err err = {0};
        lb_values v;
        lb_fds *fds = NULL;
        lb_kernels k;
        float out[64];
        st_file(dir, "model.safetensors", "pt", tensors);
        CHECK_OK(lb_folder_open(&s, dir, &err));
        const lb_tensor *t = lb_source_tensor(s, lb_str_c(name));
        FILE *f = fopen(s->files[0].path, "r+b");
        CHECK(f && fseek(f, (long)t->off_bytes + 4 * 63, SEEK_SET) == 0);
        CHECK(fwrite(&bad[i], 4, 1, f) == 1 && fclose(f) == 0);
        lb_source_close(&s);
        CHECK_OK(lb_folder_open(&s, dir, &err));
        lb_kernels_init(&k, 0);
        CHECK_OK(lb_values_init(&v, s, &s->weights[0], &err));
        CHECK_OK(lb_fds_new(&fds, s->files, s->n_files, 1, &err));
        lb_values_cut cut = {.n_rows = 32, .n_cols = 64, .tile_rows = 1, .tile_cols = 64};
        lb_values_io io = {fds, &k, aligned_alloc(64, lb_values_scratch_bytes(&v, &cut) + 64)};
        lb_values_tile tile = {3, 1, 0, 64};
        CHECK(lb_values_read(&v, &io, &tile, out, &err) == LB_E_FORMAT);
        CHECK(strstr(err.msg, name) && strstr(err.msg, "of 2 groups"));
        free(io.scratch);
        lb_fds_free(&fds);
        lb_source_close(&s);
    }
}

LB_TEST(group_out_of_range) {
    out_of_range(GPTQ4(""), GPTQ4_LAYER ";l.g_idx I32 64", "l.g_idx");
    out_of_range(CT("int-quantized", INT4),
                 "l.weight I8 32 64;l.weight_scale BF16 32 2;l.weight_g_idx I32 64",
                 "l.weight_g_idx");
}

LB_TEST(beside_codes) {
    opens(GPTQ4(""), GPTQ4_LAYER ";l.g_idx I32 0", 1); /* no order at all */
    opens(GPTQ4(""), GPTQ4_LAYER ";r.per_expert_scale BF16 4;r.scale BF16 4;logit_scale F32", 4);
    /* AutoGPTQ's: every layer has one, of zeros; a norm with a bias: they are the model's */
    opens(GPTQ4(""), GPTQ4_LAYER ";l.bias F16 32", 1);
    opens(GPTQ4(""), GPTQ4_LAYER ";l.bias F16 32;n.weight F16 32;n.bias F16 32", 4);
    opens(CT("int-quantized", "\"num_bits\":8,\"strategy\":\"channel\""),
          "l.weight I8 4 64;l.weight_scale BF16 4 1;l.weight_zero_point I8 4 1", 1);
    opens(CT("float-quantized", "\"num_bits\":8,\"type\":\"float\",\"strategy\":\"block\","
                                "\"block_structure\":\"2x32\""),
          "l.weight F8_E4M3 4 64;l.weight_scale BF16 2 2;a.k_zero_point I8 1;a.k_scale F32 1", 1);
    /* in the config of a part; of two, which a tensor belongs to is not known */
    opens("{\"text_config\":" GPTQ4("") "}", GPTQ4_LAYER, 1);
    refused("{\"text_config\":" GPTQ4("") ",\"vision_config\":" GPTQ4("") "}", GPTQ4_LAYER,
            "'gptq' (config.json)");
    opens(CT("mxfp8-quantized", FLOAT8), "l.weight F8_E4M3 4 64;l.weight_scale U8 4 2", 1);
    opens(Q("fbgemm_fp8", "\"activation_scale_ub\":1200.0"),
          "l.weight F8_E4M3 4 64;l.weight_scale F32 4 1", 1);
    /* experts in one tensor */
    opens(FP8(",\"weight_block_size\":[4,8]"),
          "e.down_proj F8_E4M3 3 6 20;e.down_proj_scale_inv F32 3 2 3;"
          "e.down_proj_activation_scale F32 3",
          1);
    opens(FP8(""), "e.down_proj F8_E4M3 3 6 20;e.down_proj_scale_inv BF16 3", 1);
    refused(FP8(""), "e.down_proj F8_E4M3 3 6 20", "'e.down_proj_scale_inv' is missing");
    refused(FP8(""), "e.down_proj F8_E4M3 3 6 20;e.down_proj_scale_inv F32 1", "each matrix");
    refused(FP8(",\"weight_block_size\":[4,8]"),
            "e.down_proj F8_E4M3 3 6 20;e.down_proj_scale_inv F32 2 2 3", "for each block");
    refused("{}", "e.down_proj F8_E4M3 3 6 20;e.down_proj_scale_inv F32 3", "by another tool");
    refused(GPTQ4(",\"desc_act\":true"), GPTQ4_LAYER ";l.g_idx I32 0", "'l.g_idx' is missing");
}

#define BNB Q("bitsandbytes", "\"load_in_4bit\":true")
#define STATE "l.weight.quant_state.bitsandbytes__nf4 U8 "

LB_TEST(refusals_bnb_modelopt) {
    static const struct {
        const char *config, *tensors, *says;
    } list[] = {
        {Q("bitsandbytes", "\"load_in_4bit\":true,\"bnb_4bit_quant_type\":\"nf5\""),
         "l.weight U8 8 1", "'nf5'"},
        {BNB, "l.weight U8 8 1;l.weight.absmax F32 1", "'l.weight' (u8)"},
        {BNB, STATE "8;l.weight.absmax F32 1", "'l.weight' is missing"},
        {BNB, STATE "8;l.weight U8 8 1", "'l.weight.absmax' is missing"},
        {BNB, STATE "8;l.weight U8 8 1;l.weight.absmax F32 1", "quant_state"},
        {BNB, STATE "0;l.weight U8 8 1;l.weight.absmax F32 1", "short text"},
        {BNB, "l.SCB F32 4;l.weight I8 4", "matrix of i8"},
        {BNB, "l.SCB F32 3;l.weight I8 4 4", "for each row"},
        {BNB, "l.SCB F16 4;l.weight I8 4 4", "for each row"},
        {BNB, "l.SCB F32 4", "'l.weight' is missing"},
        {BNB, "l.SCB F32 4;l.weight I8 4 4;l.weight_format I32 1", "expected a byte"},
        {BNB, "l.weight BF16 4 4", "no tensor has codes"},
        {Q("modelopt", "\"quant_algo\":\"W4A16_AWQ\""), "l.weight U8 4 4", "W4A16_AWQ"},
        {Q("modelopt", "\"quant_algo\":\"NVFP5\""), "l.weight U8 4 4", "NVFP5"},
        {Q("modelopt", "\"quant_algo\":7"), "l.weight U8 4 4", "not a name"},
        {Q("modelopt", "\"quantized_layers\":{\"a\":{\"quant_algo\":\"MXFP8\"}}"),
         "l.weight U8 4 4", "MXFP8"},
        {Q("modelopt", "\"quant_algo\":\"NVFP4\""), "l.weight U8 4 8;l.weight_scale F8_E4M3 4 1",
         "'l.weight_scale_2' is missing"},
        {Q("modelopt", "\"quant_algo\":\"NVFP4\""),
         "l.weight U8 4 4;l.weight_scale F8_E4M3 4 1;l.weight_scale_2 F32", "groups of 16"},
        {Q("modelopt", "\"quant_algo\":\"NVFP4\""),
         "l.weight U8 4 8;l.weight_scale F8_E4M3 4 2;l.weight_scale_2 F32", "each group of 16"},
        {Q("modelopt", "\"quant_algo\":\"NVFP4\""),
         "l.weight U8 4 8;l.weight_scale F8_E4M3 4 1;l.weight_scale_2 F32 2", "one f32"},
        {Q("modelopt", "\"quant_algo\":\"NVFP4_AWQ\""),
         "l.weight U8 4 8;l.weight_scale F8_E4M3 4 1;l.weight_scale_2 F32;"
         "l.pre_quant_scale BF16 16",
         "'l.pre_quant_scale'"},
        {Q("modelopt", "\"quant_algo\":\"FP8\""), "l.weight F8_E4M3 4 4;l.weight_scale F32 3",
         "nor one for each row"},
    };
    for (size_t i = 0; i < LB_LEN(list); i++)
        refused(list[i].config, list[i].tensors, list[i].says);
}

/* ---- a weight's own text ---- */

/* l.weight of 8 x 8 with this quant_state; map: 0 for an honest one. */
static void bnb_state(const char *state, u32 map, const char *want) {
    const char *dir = st_dir("state");
    char tensors[512];
    lb_err err = {0};
    lb_source *s = NULL;
    snprintf(tensors, sizeof tensors,
             STATE "%zu;l.weight U8 32 1;l.weight.absmax F32 2;l.weight.quant_map F32 16",
             strlen(state));
    st_text(dir, "config.json", BNB);
    /* the shapes first, then what stands in two of the tensors */
    st_file(dir, "model.safetensors", "pt", tensors);
    lb_arena a = {0};
    lb_str name = LB_STR("model.safetensors"), text;
    const char *path = lb_os_join(&a, dir, name);
    CHECK_OK(lb_os_read_file(path, LB_MIB, &a, &text, &err));
    u64 data = 8 + lb_load_u64(text.ptr);
    FILE *f = fopen(path, "r+b");
    CHECK(f && fseek(f, (long)data, SEEK_SET) == 0);
    CHECK(fwrite(state, strlen(state), 1, f) == 1);
    float values[16];
    memcpy(values, lb_four_bit_nf4, sizeof values);
    values[map] += map ? 1 : 0;
    CHECK(fseek(f, (long)(data + strlen(state) + 32 + 8), SEEK_SET) == 0);
    CHECK(fwrite(values, sizeof values, 1, f) == 1 && fclose(f) == 0);
    lb_status st = lb_folder_open(&s, dir, &err);
    if (want ? st == LB_OK || !strstr(err.msg, want) || !strstr(err.msg, "'l.weight.quant") : st)
        lb_test_fail(__FILE__, __LINE__, "%s\n    said \"%s\", expected \"%s\"", state, err.msg,
                     want ? want : "nothing");
    lb_source_close(&s);
    lb_arena_deinit(&a);
}

#define NF4(type, block, dtype, shape) \
    "{\"quant_type\":" type ",\"blocksize\":" block ",\"dtype\":" dtype ",\"shape\":" shape "}"

LB_TEST(bnb_quant_state) {
    bnb_state(NF4("\"nf4\"", "32", "\"float16\"", "[8,8]"), 0, NULL);
    bnb_state(NF4("\"nf4\"", "32", "\"float16\"", "[8,8]"), 5, "not those of the type");
    bnb_state(NF4("\"fp4\"", "32", "\"float16\"", "[8,8]"), 0, "'quant_type'");
    bnb_state(NF4("\"nf4\"", "48", "\"float16\"", "[8,8]"), 0, "'blocksize'");
    bnb_state(NF4("\"nf4\"", "0", "\"float16\"", "[8,8]"), 0, "'blocksize'");
    bnb_state(NF4("\"nf4\"", "32", "\"float8\"", "[8,8]"), 0, "'dtype'");
    bnb_state(NF4("\"nf4\"", "32", "\"float16\"", "[64]"), 0, "'shape'");
    bnb_state(NF4("\"nf4\"", "32", "\"float16\"", "[8,-8]"), 0, "'shape'");
    bnb_state(NF4("\"nf4\"", "32", "\"float16\"", "[4294967296,4294967296]"), 0, "'shape'");
    bnb_state(NF4("\"nf4\"", "32", "\"float16\"", "[8,9]"), 0, "another number of codes");
    bnb_state("{\"quant_type\":\"nf4\"", 0, "quant_state");
    bnb_state("[]", 0, "'quant_type'");
}

LB_TEST(refusals_mxfp4) {
    refused(MXFP4, "l_blocks U8 2 4 1 16", "l_scales' is missing");
    refused(MXFP4, "l_blocks U8 2 4 1 16;l_scales U8 2 4 2", "one byte for each group");
    refused(MXFP4, "l_blocks U8 2 4 1 16;l_scales BF16 2 4 1", "one byte for each group");
    refused(MXFP4, "l_blocks U8 2 4 1 8;l_scales U8 2 4 1", "groups of 16 bytes");
    refused(MXFP4, "l_blocks U8 2 16;l_scales U8 2", "groups of 16 bytes");
    refused(MXFP4, "l_blocks BF16 2 4 1 16;l_scales U8 2 4 1", "groups of 16 bytes");
    refused(MXFP4, "l_scales U8 2 4 1", "'l_scales'");
}

LB_TEST_MAIN("fast")
