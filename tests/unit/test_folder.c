/* SPDX-License-Identifier: Apache-2.0 */
/* Model folders: which files are read, the index, other tools' quantization, side files, size. */
#include "base/os.h"
#include "format/folder.h"
#include "format/safetensors.h"
#include "format/st_layout.h"
#include "st_files.h"
#include "test.h"

#include <time.h>
#include <unistd.h>

#define INDEX(map) "{\"metadata\":{\"total_size\":1},\"weight_map\":{" map "}}"

static bool has(lb_str text, const char *part) {
    size_t pos;
    return lb_str_find(text, lb_str_c(part), &pos);
}

/* Opens, compares the status, and that message or notes hold the text; NULL unless it opened. */
static lb_source *open_as(const char *dir, lb_status want, const char *says, int line) {
    lb_err err = {0};
    lb_source *s;
    lb_status st = lb_folder_open(&s, dir, &err);
    lb_str notes = s ? s->notes : LB_STR_NONE;
    bool said = st == LB_OK ? !says || has(notes, says) : !says || strstr(err.msg, says);
    if (st != want || !said)
        lb_test_fail(__FILE__, line, "status %d (%s), notes \"%.*s\"; expected %d and \"%s\"",
                     (int)st, err.msg, LB_FMT(notes), (int)want, says ? says : "");
    return s;
}
#define OPENS(dir, says) open_as(dir, LB_OK, says, __LINE__)
#define REFUSES(dir, code, says)                               \
    do {                                                       \
        lb_source *none_ = open_as(dir, code, says, __LINE__); \
        lb_source_close(&none_);                               \
    } while (0)

/* ---- goldens ---- */

LB_TEST(transformers_folder) {
    lb_err err = {0};
    lb_source *s;
    CHECK_OK(lb_folder_open(&s, lb_test_golden("st/hf_sharded"), &err));
    CHECK_U64(s->format, LB_FORMAT_HF);
    CHECK_STR(s->label, "hf_sharded");
    CHECK_U64(s->n_files, 5);
    CHECK_U64(s->n_tensors, 21);
    CHECK_U64(s->n_weights, 21);
    CHECK_U64(s->n_sides, 1);
    CHECK(s->notes.len == 0);
    CHECK_STR(s->files[1].name, "model-00002-of-00005.safetensors");
    CHECK_STR(s->st_metadata, "{\"format\":\"pt\"}");
    size_t len;
    u8 *config = st_slurp(lb_test_golden("st/hf_sharded/config.json"), &len);
    CHECK(lb_str_eq(s->config, (lb_str){(char *)config, len}));
    lb_free(config);
    const lb_side_file *side = lb_source_side(s, LB_STR("config.json"));
    CHECK(side && side->size_bytes == len);
    const lb_weight *w = lb_source_weight(s, LB_STR("model.layers.1.self_attn.q_proj.weight"));
    CHECK(w && w->n_parts == 1 && s->tensors[w->part[0]].file == 2 && w->shape.dim[0] == 16);
    lb_source_close(&s);
}

/* ---- which files ---- */

LB_TEST(single_file) {
    const char *dir = st_dir("m");
    lb_source *s;
    st_file(dir, "model.safetensors", NULL, "a F32 2;b BF16 3");
    s = OPENS(dir, NULL); /* no config at all */
    CHECK(s && s->format == LB_FORMAT_HF && s->n_weights == 2 && s->config.len == 0 &&
          !s->notes.len);
    lb_source_close(&s);
    st_file(dir, "model-00001-of-00002.safetensors", "pt", "c F32 2");
    st_file(dir, "model.fp16.safetensors", "pt", "a F16 2");
    s = OPENS(dir,
              "2 other weight files are not read: model-00001-of-00002.safetensors, model.fp16");
    CHECK(s && s->n_files == 1 && s->n_weights == 2);
    lb_source_close(&s);
    st_text(dir, LB_INDEX_NAME, INDEX("\"c\":\"model-00001-of-00002.safetensors\""));
    s = OPENS(dir, "model.safetensors goes before the index, as in transformers");
    CHECK(s && s->n_files == 1 && s->n_weights == 2);
    lb_source_close(&s);
    st_text(dir, LB_INDEX_NAME, INDEX("\"a\":\"model.safetensors\",\"b\":\"model.safetensors\""));
    s = OPENS(dir, "2 other weight files");
    CHECK(s && !has(s->notes, "goes before"));
    lb_source_close(&s);
    st_text(dir, LB_INDEX_NAME, "{");
    REFUSES(dir, LB_E_FORMAT, LB_INDEX_NAME);
}

LB_TEST(numbered_shards_without_index) {
    const char *dir = st_dir("m");
    lb_source *s;
    st_file(dir, "model-00001-of-00003.safetensors", "pt", "a F32 2");
    st_file(dir, "model-00003-of-00003.safetensors", "pt", "c F32 2");
    REFUSES(dir, LB_E_NOT_FOUND, "1 of 3 shards of 'model' are missing: 00002-of-00003");
    st_file(dir, "model-00002-of-00003.safetensors", "pt", "b F32 2");
    s = OPENS(dir, "no index: the 3 shards of 'model' are read");
    CHECK(s && s->n_files == 3 && s->n_weights == 3);
    lb_source_close(&s);
    st_file(dir, "consolidated-00001-of-00002.safetensors", "pt", "x F32 2");
    s = OPENS(dir, "1 other weight file is not read: consolidated-00001-of-00002");
    CHECK(s && s->n_files == 3);
    lb_source_close(&s);
    st_file(dir, "model-00001-of-00002.safetensors", "pt", "x F32 2");
    REFUSES(dir, LB_E_FORMAT, "more than one set");
    dir = st_dir("m");
    st_file(dir, "model-00002-of-99999.safetensors", "pt", "a F32 2");
    REFUSES(dir, LB_E_NOT_FOUND,
            "99998 of 99999 shards of 'model' are missing: 00001-of-99999, 00003-of-99999, "
            "00004-of-99999 and 99995 more");
    dir = st_dir("m");
    st_file(dir, "model-00000-of-00001.safetensors", "pt", "a F32 2");
    REFUSES(dir, LB_E_NOT_FOUND, "1 of 1 shards");
    dir = st_dir("m");
    st_file(dir, "model-00001-of-18446744073709551615.safetensors", "pt", "a F32 2");
    st_file(dir, "model-00000000000000000001-of-18446744073709551615.safetensors", "pt", "a F32 2");
    REFUSES(dir, LB_E_FORMAT, "'a'");
}

LB_TEST(other_names) {
    const char *dir = st_dir("m");
    lb_source *s;
    st_file(dir, "consolidated.safetensors", "pt", "a F32 2");
    s = OPENS(dir, "'consolidated.safetensors' is read");
    lb_source_close(&s);
    st_file(dir, "weights.safetensors", "pt", "b F32 2");
    REFUSES(dir, LB_E_FORMAT, "2 safetensors files and none is called model*");
    st_file(dir, "model.1.safetensors", "pt", "c F32 2");
    st_file(dir, "model.2.safetensors", "pt", "d F32 2");
    s = OPENS(dir, "'model.1.safetensors' and the other model*.safetensors are read");
    CHECK(s && s->n_weights == 2);
    lb_source_close(&s);
    st_file(dir, "model.2.safetensors", "pt", "c F32 2");
    REFUSES(dir, LB_E_FORMAT, "'c'");
}

LB_TEST(no_safetensors) {
    const char *dir = st_dir("m");
    lb_err err = {0};
    lb_source *s;
    REFUSES(dir, LB_E_NOT_FOUND, "no weights in this folder");
    st_text(dir, "tokenizer.json", "{}");
    REFUSES(dir, LB_E_NOT_FOUND, "expected model.safetensors");
    st_text(dir, "model.h5", "PK");
    REFUSES(dir, LB_E_UNSUPPORTED, "'model.h5': not supported yet");
    dir = st_dir("m");
    st_text(dir, "pytorch_model-00001-of-00002.bin", "PK");
    REFUSES(dir, LB_E_NOT_FOUND, "1 of 2 shards of 'pytorch_model' are missing: 00002-of-00002");
    st_text(dir, "pytorch_model.bin.index.json", "{}");
    REFUSES(dir, LB_E_FORMAT, "pytorch_model.bin.index.json: 'weight_map' is missing");
    st_text(dir, "pytorch_model.bin.index.json", "{\"weight_map\":{\"a\":\"../x.bin\"}}");
    REFUSES(dir, LB_E_FORMAT, "'../x.bin' is not the plain name of a .bin file");
    st_text(dir, "pytorch_model.bin.index.json", "{\"weight_map\":{\"a\":\"x.safetensors\"}}");
    REFUSES(dir, LB_E_FORMAT, "'x.safetensors' is not the plain name of a .bin file");
    dir = st_dir("m");
    st_text(dir, "pytorch_model.a.bin", "PK");
    st_text(dir, "pytorch_model.b.bin", "PK");
    REFUSES(dir, LB_E_FORMAT, "2 files are called pytorch_model*.bin");
    dir = st_dir("m");
    st_text(dir, "consolidated.00.pth", "PK");
    REFUSES(dir, LB_E_UNSUPPORTED, "'consolidated.00.pth' (PyTorch)");
    dir = st_dir("m");
    st_text(dir, "x.gguf", "GGUF");
    REFUSES(dir, LB_E_UNSUPPORTED, "give 'x.gguf' itself");
    CHECK(lb_folder_open(&s, st_path(dir, "x.gguf"), &err) == LB_E_FORMAT);
    CHECK(lb_folder_open(&s, st_path(dir, "absent"), &err) == LB_E_NOT_FOUND && s == NULL);
    dir = st_dir("m");
    st_text(dir, "model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n");
    REFUSES(dir, LB_E_FORMAT, "Git LFS pointer");
}

/* ---- the index ---- */

LB_TEST(index_against_shards) {
    const char *dir = st_dir("m");
    lb_source *s;
    st_file(dir, "model-1.safetensors", "pt", "a F32 2;b F32 2");
    st_file(dir, "model-2.safetensors", "pt", "c F32 2");
    st_text(dir, LB_INDEX_NAME,
            INDEX("\"c\":\"model-2.safetensors\",\"a\":\"model-1.safetensors\","
                  "\"b\":\"model-1.safetensors\""));
    s = OPENS(dir, NULL);
    CHECK(s && s->n_files == 2 && s->n_weights == 3 && !s->notes.len);
    CHECK_STR(s->tensors[0].name, "a");
    lb_source_close(&s);
    st_text(dir, LB_INDEX_NAME,
            INDEX("\"c\":\"model-2.safetensors\",\"a\":\"model-1.safetensors\""));
    REFUSES(dir, LB_E_FORMAT,
            "0 tensors only in the index, 1 only in the shards, 0 in another shard (b)");
    st_text(
        dir, LB_INDEX_NAME,
        INDEX(
            "\"c\":\"model-2.safetensors\",\"a\":\"model-1.safetensors\",\"b\":"
            "\"model-1.safetensors\",\"d\":\"model-1.safetensors\",\"e\":\"model-2.safetensors\""));
    REFUSES(dir, LB_E_FORMAT,
            "2 tensors only in the index, 0 only in the shards, 0 in another shard (d, e)");
    st_text(dir, LB_INDEX_NAME,
            INDEX("\"c\":\"model-1.safetensors\",\"a\":\"model-1.safetensors\",\"b\":"
                  "\"model-2.safetensors\""));
    REFUSES(dir, LB_E_FORMAT, "2 in another shard (c, b)");
    st_text(dir, LB_INDEX_NAME,
            INDEX("\"c\":\"model-2.safetensors\",\"a\":\"model-3.safetensors\",\"b\":"
                  "\"model-4.safetensors\""));
    REFUSES(dir, LB_E_NOT_FOUND,
            "3 shards, 2 of them are not here: model-3.safetensors, model-4.safetensors");
    st_text(dir, LB_INDEX_NAME, INDEX("\"c\":\"model-2.safetensors\""));
    s = OPENS(dir, "1 other weight file is not read: model-1.safetensors");
    CHECK(s && s->n_weights == 1);
    lb_source_close(&s);
    st_text(dir, LB_INDEX_NAME,
            INDEX("\"a\":\"model-1.safetensors\",\"b\":\"model-1.safetensors\",\"c\":"
                  "\"model-2.safetensors\""));
    st_file(dir, "model-2.safetensors", "pt", "c F32 2;a F32 1");
    REFUSES(dir, LB_E_FORMAT, "'a'"); /* in both */
}

LB_TEST(index_texts) {
    static const struct {
        const char *text, *says;
    } list[] = {
        {"", ""},
        {"[]", "not a JSON object"},
        {"{}", "'weight_map' is missing"},
        {"{\"weight_map\":[]}", "'weight_map' is not an object"},
        {"{\"weight_map\":{},\"weight_map\":{}}", "'weight_map' stands twice"},
        {"{\"weight_map\":{}} x", ""},
        {"{\"weight_map\":{\"a\":1}}", "'a' is not mapped to a file name"},
        {"{\"weight_map\":{\"a\":{}}}", "'a' is not mapped"},
        {"{\"weight_map\":{\"a\":\"m.safetensors\",\"\\u0061\":\"m.safetensors\"}}",
         "'a' stands twice"},
        {"{\"weight_map\":{\"a\":\"/etc/m.safetensors\"}}", "plain name"},
        {"{\"weight_map\":{\"a\":\"../m.safetensors\"}}", "plain name"},
        {"{\"weight_map\":{\"a\":\"x/m.safetensors\"}}", "plain name"},
        {"{\"weight_map\":{\"a\":\"x\\\\m.safetensors\"}}", "plain name"},
        {"{\"weight_map\":{\"a\":\"x\\u0000.safetensors\"}}", "plain name"},
        {"{\"weight_map\":{\"a\":\"..\"}}", "plain name"},
        {"{\"weight_map\":{\"a\":\"\"}}", "plain name"},
        {"{\"weight_map\":{\"a\":\"m.bin\"}}", "plain name of a .safetensors"},
        {"{\"weight_map\":{\"\\ud800\":\"m.safetensors\"}}", "surrogate"},
    };
    for (size_t i = 0; i < LB_LEN(list); i++) {
        lb_arena arena = {0};
        lb_err err = {0};
        lb_index index;
        lb_status st = lb_index_parse(lb_str_c(list[i].text), "the index", ".safetensors", &arena,
                                      &index, &err);
        if (st != LB_E_FORMAT || !strstr(err.msg, list[i].says))
            lb_test_fail(__FILE__, __LINE__, "%s: %d \"%s\"", list[i].text, (int)st, err.msg);
        lb_arena_deinit(&arena);
    }
    lb_arena arena = {0};
    lb_err err = {0};
    lb_index index;
    CHECK_OK(
        lb_index_parse(LB_STR("{\"x\":[{}],\"weight_map\":{\"b\":\"n.safetensors\",\"\\u0061\":"
                              "\"m.safetensors\",\"c\":\"\\u006e.safetensors\"},\"y\":1}"),
                       "the index", ".safetensors", &arena, &index, &err));
    CHECK(index.n_entries == 3 && index.n_shards == 2);
    CHECK_STR(index.shards[0], "m.safetensors");
    CHECK(index.entries[0].shard == 1 && index.entries[1].shard == 0 &&
          index.entries[2].shard == 1);
    CHECK_STR(index.entries[1].tensor, "a");
    lb_arena_deinit(&arena);
}

LB_TEST(index_damage) {
    size_t len;
    u8 *bytes = st_slurp(lb_test_golden("st/hf_sharded/model.safetensors.index.json"), &len);
    size_t text = len;
    while (text && (bytes[text - 1] == '\n' || bytes[text - 1] == ' '))
        text--;
    for (size_t cut = 0; cut < text; cut++) {
        lb_arena arena = {0};
        lb_err err = {0};
        lb_index index;
        if (lb_index_parse((lb_str){(char *)bytes, cut}, "i", ".safetensors", &arena, &index,
                           &err) != LB_E_FORMAT)
            lb_test_fail(__FILE__, __LINE__, "cut at %zu", cut);
        lb_arena_deinit(&arena);
    }
    for (u32 i = 0; i < 12000; i++) {
        lb_arena arena = {0};
        lb_err err = {0};
        lb_index index;
        u64 bit = lb_test_rand_below((u64)len * 8);
        bytes[bit / 8] ^= (u8)(1u << (bit % 8));
        lb_status st =
            lb_index_parse((lb_str){(char *)bytes, len}, "i", ".safetensors", &arena, &index, &err);
        CHECK(st == LB_OK ? index.n_shards <= index.n_entries : err.msg[0] != 0);
        for (u32 k = 0; st == LB_OK && k < index.n_shards; k++)
            CHECK(lb_str_is_file_name(index.shards[k]));
        bytes[bit / 8] ^= (u8)(1u << (bit % 8));
        lb_arena_deinit(&arena);
    }
    lb_free(bytes);
}

/* ---- configs ---- */

LB_TEST(configs) {
    static const struct {
        const char *text, *says;
    } bad[] = {{"", ""},
               {"[1]", "config.json is not a JSON object"},
               {"{\"a\":1,\"a\":2}", ""},
               {"{", ""}};
    const char *dir = st_dir("m");
    const char *odd = "{\"n\": 1000000000000000019884624838656, \"x\": Infinity, \"e\": 1e-05}\n";
    st_file(dir, "model.safetensors", "pt", "a F32 2");
    for (size_t i = 0; i < LB_LEN(bad); i++) {
        st_text(dir, "config.json", bad[i].text);
        REFUSES(dir, LB_E_FORMAT, bad[i].says);
    }
    st_text(dir, "config.json", odd);
    lb_source *s = OPENS(dir, NULL);
    CHECK(s);
    CHECK_STR(s->config, odd); /* byte for byte */
    lb_source_close(&s);
}

LB_TEST(config_names_the_weights) {
    const char *dir = st_dir("m");
    st_file(dir, "model.safetensors", "pt", "a F32 2");
    st_text(dir, "config.json", "{\"transformers_weights\":\"model.safetensors\"}");
    lb_source *s = OPENS(dir, NULL);
    lb_source_close(&s);
    st_text(dir, "config.json", "{\"transformers_weights\":\"other.safetensors\"}");
    REFUSES(dir, LB_E_UNSUPPORTED, "names 'other.safetensors' as the weights");
}

LB_TEST(other_tools_quantization) {
    static const struct {
        const char *config, *says;
    } list[] = {
        {"{\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":[128,128]}}",
         "'fp8'"},
        {"{\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":4}}", "'gptq'"},
        {"{\"quantization_config\":{\"quant_method\":\"awq\"}}", "'awq'"},
        {"{\"quantization_config\":{\"quant_method\":\"compressed-tensors\"}}",
         "'compressed-tensors'"},
        {"{\"quantization_config\":{\"config_groups\":{}}}", "'compressed-tensors'"},
        {"{\"compression_config\":{\"config_groups\":{}}}", "'compressed-tensors'"},
        {"{\"quantization_config\":{\"quant_method\":\"bitsandbytes\"}}", "'bitsandbytes'"},
        {"{\"quantization_config\":{\"load_in_4bit\":true}}", "'bitsandbytes'"},
        {"{\"quantization_config\":{\"quant_method\":\"mxfp4\"}}", "'mxfp4'"},
        {"{\"quantization_config\":{\"quant_method\":\"modelopt\"}}", "'modelopt'"},
        {"{\"quantization_config\":{\"quant_algo\":\"NVFP4\"}}", "'modelopt'"},
        {"{\"quantization_config\":{\"quant_method\":\"bitnet\"}}", "'bitnet'"},
        {"{\"quantization_config\":{\"bits\":4,\"group_size\":128,\"zero_point\":true}}",
         "no quant_method"},
        {"{\"text_config\":{\"quantization_config\":{\"quant_method\":\"fp8\"}}}", "'fp8'"},
        {"{\"thinker_config\":{\"quantization_config\":{\"quant_method\":\"awq\"}}}", "'awq'"},
    };
    const char *dir = st_dir("m");
    st_file(dir, "model.safetensors", "pt", "a.weight BF16 2 2");
    for (size_t i = 0; i < LB_LEN(list); i++) {
        st_text(dir, "config.json", list[i].config);
        REFUSES(dir, LB_E_UNSUPPORTED, list[i].says);
        REFUSES(dir, LB_E_UNSUPPORTED, "not supported yet");
    }
    st_text(dir, "config.json",
            "{\"quantization_config\":null,\"text_config\":{\"quantization_config\":{}}}");
    lb_source *s = OPENS(dir, NULL);
    lb_source_close(&s);
    st_text(dir, "hf_quant_config.json",
            "{\"producer\":{\"name\":\"modelopt\"},\"quantization\":{\"quant_algo\":null}}");
    s = OPENS(dir, NULL);
    lb_source_close(&s);
    st_text(dir, "hf_quant_config.json", "{\"quantization\":{\"quant_algo\":\"FP8\"}}");
    REFUSES(dir, LB_E_UNSUPPORTED, "'modelopt' (hf_quant_config.json)");
}

/* The config lost the method: the tensors still tell. */
LB_TEST(other_tools_tensors) {
    static const char *const list[] = {
        "l.qweight I32 2 2;l.scales F16 2 2;l.qzeros I32 2 2",
        "l.weight_packed I32 2 2;l.weight_scale BF16 2 1",
        "l.weight F8_E4M3 2 2;l.weight_scale_inv F32 1 1",
        "l.weight F8_E4M3 2 2;l.weight_scale F32",
        "l.weight I8 2 2;l.weight_scale BF16 2 1",
        "l.weight U8 2 1;l.weight.absmax F32 1",
        "l.weight I8 2 2;l.SCB F32 2",
        "e.gate_up_proj_blocks U8 2 2 16;e.gate_up_proj_scales U8 2 2",
    };
    for (size_t i = 0; i < LB_LEN(list); i++) {
        const char *dir = st_dir("m");
        lb_err err = {0};
        lb_source *s;
        st_file(dir, "model.safetensors", "pt", list[i]);
        REFUSES(dir, LB_E_UNSUPPORTED, "quantized by another tool");
        CHECK(lb_st_open(&s, st_path(dir, "model.safetensors"), &err) == LB_E_UNSUPPORTED && !s);
    }
    const char *dir = st_dir("m");
    st_file(dir, "model.safetensors", "pt",
            "l.weight BF16 2 2;l.weight_scale F32;m.weight F8_E4M3 2 2;n.scales F16 2;o U8 3");
    lb_source *s = OPENS(dir, NULL);
    CHECK(s && s->n_weights == 5);
    lb_source_close(&s);
    st_file(dir, "model.safetensors", "pt",
            "l.weight U32 2 16;l.scales BF16 2 2;l.biases BF16 2 2");
    REFUSES(dir, LB_E_FORMAT, "config.json has no \"quantization\"");
}

/* mlx-lm keeps the method in the config of a model that it has dequantized. */
LB_TEST(mlx_undid_it) {
    const char *dir = st_dir("m");
    st_text(dir, "config.json", "{\"quantization_config\":{\"quant_method\":\"fp8\"}}");
    st_file(dir, "model.safetensors", "mlx", "l.weight BF16 2 2;n.weight F32 2");
    lb_source *s = OPENS(dir, NULL);
    CHECK(s && s->format == LB_FORMAT_MLX && s->n_weights == 2);
    lb_source_close(&s);
    st_file(dir, "model.safetensors", "mlx", "l.weight U8 2 2;n.weight F32 2");
    REFUSES(dir, LB_E_UNSUPPORTED, "tensor 'l.weight' is still u8");
    st_text(dir, "config.json", "{}");
    st_file(dir, "model.safetensors", "mlx", "l.weight BF16 2 2");
    s = OPENS(dir, NULL);
    CHECK(s && s->format == LB_FORMAT_MLX);
    lb_source_close(&s);
}

/* ---- side files and links ---- */

LB_TEST(sides_and_links) {
    const char *dir = st_dir("m"), *blobs = st_dir("blobs");
    st_text(dir, "tokenizer.json", "{\"a\":1}");
    st_text(dir, "README.md", "hello");
    st_text(dir, ".gitattributes", "x");
    st_text(dir, "training_args.bin", "x");
    st_text(dir, "optimizer.pt", "x");
    st_text(blobs, "c0ffee", "{% raw %}");
    st_file(blobs, "beef", "pt", "a F32 2");
    CHECK(symlink(st_path(blobs, "c0ffee"), st_path(dir, "chat_template.jinja")) == 0);
    CHECK(symlink(st_path(blobs, "beef"), st_path(dir, "model.safetensors")) == 0);
    CHECK(symlink("nowhere", st_path(dir, "vocab.txt")) == 0);
    CHECK(symlink(blobs, st_path(dir, "original")) == 0);
    lb_source *s = OPENS(dir, "'vocab.txt' is a link to nothing: left out");
    CHECK(s && has(s->notes, "1 folder inside was not looked into"));
    CHECK(has(s->notes, "2 other weight files are not read: optimizer.pt, training_args.bin"));
    CHECK_U64(s->n_sides, 3);
    CHECK_STR(s->sides[0].name, "README.md");
    CHECK_STR(s->sides[1].name, "chat_template.jinja");
    CHECK_U64(s->sides[1].size_bytes, 9);
    CHECK_STR(lb_str_c(s->sides[2].path), st_path(dir, "tokenizer.json"));
    CHECK_STR(s->files[0].name, "model.safetensors");
    lb_source_close(&s);
    CHECK(unlink(st_path(blobs, "beef")) == 0);
    REFUSES(dir, LB_E_UNSUPPORTED, "optimizer.pt"); /* the weights' link leads nowhere now */
    CHECK(symlink(dir, st_path(blobs, "snapshot")) == 0);
    st_file(blobs, "beef", "pt", "a F32 2");
    s = OPENS(st_path(blobs, "snapshot"), NULL);
    CHECK(s != NULL);
    CHECK_STR(s->label, "snapshot");
    lb_source_close(&s);
}

/* ---- memory and size ---- */

LB_TEST(allocation_failures) {
    char path[512];
    lb_status st = LB_E_NOMEM;
    (void)snprintf(path, sizeof path, "%s", lb_test_golden("st/hf_sharded"));
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

/* 100,000 tensors in 1,000 shards, 20 GB of holes. */
LB_TEST(large) {
    const u64 n = lb_test_cases(100000), n_shards = lb_ceil_div_u64(n, 100);
    lb_arena arena = {0};
    lb_err err = {0};
    lb_st_layout l;
    const char *dir = st_dir("large");
    lb_st_item *items = lb_arena_new(&arena, lb_st_item, n);
    lb_st_meta meta = {LB_STR("format"), LB_STR("pt"), 0};
    lb_st_layout_opts o = {.style = LB_ST_HF,
                           .max_shard_bytes = 100 * 204800,
                           .data_align = 8,
                           .meta = &meta,
                           .n_meta = 1};
    CHECK(items != NULL);
    for (u64 i = 0; i < n; i++) {
        items[i].name = lb_arena_printf(&arena, "model.layers.%u.mlp.experts.%u.up_proj.weight",
                                        (unsigned)(i / 512), (unsigned)(i % 512));
        items[i].dtype = LB_BF16;
        items[i].shape = (lb_shape){2, {320, 320}};
        CHECK(items[i].name.ptr != NULL);
    }
    CHECK_OK(lb_st_layout_plan(items, n, &o, &arena, &l, &err));
    CHECK_U64(l.n_shards, n_shards);
    for (u32 k = 0; k < l.n_shards; k++) {
        const char *path = st_path(dir, l.shards[k].name.ptr);
        int fd = -1;
        CHECK_OK(lb_os_open_write(path, true, &fd, &err));
        CHECK_OK(lb_os_pwrite(fd, path, l.shards[k].header.ptr, l.shards[k].header.len, 0, &err));
        CHECK_OK(lb_os_truncate(fd, path, l.shards[k].size_bytes, &err));
        lb_os_close(&fd);
    }
    st_write(dir, LB_INDEX_NAME, l.index.ptr, l.index.len);
    clock_t start = clock();
    lb_source *s;
    CHECK_OK(lb_folder_open(&s, dir, &err));
    printf("folder of %u shards, %llu tensors: %.3f s, %.1f MB held\n", l.n_shards,
           (unsigned long long)n, (double)(clock() - start) / CLOCKS_PER_SEC,
           (double)s->perm.size_bytes / 1e6);
    CHECK(s->n_files == n_shards && s->n_weights == n);
    for (u64 i = 0; i < n; i += 997) {
        const lb_tensor *t = lb_source_tensor(s, items[i].name);
        CHECK(t && t->file == items[i].shard && t->off_bytes == items[i].off_bytes);
    }
    lb_source_close(&s);
    lb_arena_deinit(&arena);
}

LB_TEST_MAIN("fast")
