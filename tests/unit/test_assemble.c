/* SPDX-License-Identifier: Apache-2.0 */
/* test_assemble.c: experts into stacks and out of them: what is there once and whole is put
 * together; an expert that lacks, comes twice or does not fit the config is refused by name. */
#include "base/cpu.h"
#include "base/os.h"
#include "gguf_build.h"
#include "ops/convert.h"
#include "ops/open.h"
#include "st_files.h"
#include "test.h"
#include <string.h>

/* One layer of qwen3_moe but for its experts: hidden 32, 2 heads of 16. */
#define HEAD                                                                             \
    "lm_head.weight F32 40 32;model.embed_tokens.weight F32 40 32;model.norm.weight F32" \
    " 32;model.layers.0.input_layernorm.weight F32 32;"                                  \
    "model.layers.0.post_attention_layernorm.weight F32 32;"                             \
    "model.layers.0.self_attn.q_proj.weight F32 32 32;"                                  \
    "model.layers.0.self_attn.k_proj.weight F32 32 32;"                                  \
    "model.layers.0.self_attn.v_proj.weight F32 32 32;"                                  \
    "model.layers.0.self_attn.o_proj.weight F32 32 32;"                                  \
    "model.layers.0.self_attn.q_norm.weight F32 16;"                                     \
    "model.layers.0.self_attn.k_norm.weight F32 16;"                                     \
    "model.layers.0.mlp.gate.weight F32 2 32"
#define X ";model.layers.0.mlp.experts."
#define GATES X "0.gate_proj.weight F32 8 32" X "1.gate_proj.weight F32 8 32"
#define DOWNS X "0.down_proj.weight F32 32 8" X "1.down_proj.weight F32 32 8"
#define UP0 X "0.up_proj.weight F32 8 32"
#define UP1 X "1.up_proj.weight F32 8 32"
#define STACKED X "gate_up_proj F32 2 16 32" X "down_proj F32 2 32 8"

static const char *folder(const char *tensors, u32 n_experts) {
    char config[640];
    const char *dir = st_dir("model");
    (void)snprintf(config, sizeof config,
                   "{\"architectures\": [\"Qwen3MoeForCausalLM\"], \"model_type\": \"qwen3_moe\","
                   "\"hidden_size\": 32, \"intermediate_size\": 8, \"moe_intermediate_size\": 8,"
                   "\"num_hidden_layers\": 1, \"num_attention_heads\": 2, \"vocab_size\": 40,"
                   "\"num_key_value_heads\": 2, \"head_dim\": 16, \"num_experts\": %u,"
                   "\"num_experts_per_tok\": 1, \"tie_word_embeddings\": false}",
                   n_experts);
    st_text(dir, "config.json", config);
    st_file(dir, "model.safetensors", "pt", tensors);
    return dir;
}

/* Converts dir to `to`; the message of the error, "" without one. cast: LB_DTYPE_COUNT for none. */
static lb_status convert_as(const char *dir, lb_to to, const char *out, lb_dtype cast,
                            lb_err *err) {
    lb_kernels k;
    lb_source *s = NULL;
    lb_buf plan = {0}, remarks = {0};
    lb_out_report report;
    lb_kernels_init(&k, lb_cpu_isa());
    static const char *const pre[] = {"tokenizer.ggml.pre=str:gpt-2"};
    lb_convert_opts o = {.verb = "convert",
                         .set = pre,
                         .n_set = to == LB_TO_GGUF,
                         .cast = cast != LB_DTYPE_COUNT,
                         .dtype = cast,
                         .w = {.to = to,
                               .kernels = &k,
                               .output = out,
                               .no_sync = true,
                               .force = true,
                               .memory_bytes = 64 * LB_MIB,
                               .threads = 1}};
    *err = (lb_err){0};
    lb_status st = lb_open(&s, dir, err);
    if (st == LB_OK)
        st = lb_convert(s, &o, &plan, &remarks, &report, err);
    lb_source_close(&s);
    lb_buf_deinit(&plan);
    lb_buf_deinit(&remarks);
    return st;
}

static lb_status convert(const char *dir, lb_to to, const char *out, lb_err *err) {
    return convert_as(dir, to, out, LB_DTYPE_COUNT, err);
}

static bool refused(const char *tensors, u32 n_experts, lb_to to, const char *word) {
    lb_err err;
    lb_status st = convert(folder(tensors, n_experts), to, st_path(lb_test_dir(), "out"), &err);
    bool ok = st == LB_E_FORMAT && lb_status_exit(st) == 3 && strstr(err.msg, word);
    if (!ok)
        printf("    %d: %s\n", (int)st, err.msg);
    return ok;
}

static const lb_weight *weight(const lb_source *s, const char *name) {
    return lb_source_weight(s, lb_str_c(name));
}

LB_TEST(put_together) {
    static const char *const forms[] = {HEAD GATES DOWNS UP0 UP1, HEAD STACKED};
    for (u32 i = 0; i < LB_LEN(forms); i++) {
        lb_err err;
        lb_source *s = NULL;
        const char *mlx = st_path(lb_test_dir(), "mlx"), *hf = st_path(lb_test_dir(), "hf");
        CHECK_OK(convert(folder(forms[i], 2), LB_TO_MLX, mlx, &err));
        CHECK_OK(lb_open(&s, mlx, &err));
        const lb_weight *w = weight(s, "model.layers.0.mlp.switch_mlp.up_proj.weight");
        CHECK(w && w->shape.rank == 3 && w->shape.dim[0] == 2 && w->shape.dim[1] == 8 &&
              w->shape.dim[2] == 32);
        CHECK_U64(s->n_weights, 15);
        lb_source_close(&s);
        CHECK_OK(convert(mlx, LB_TO_HF, hf, &err));
        CHECK_OK(lb_open(&s, hf, &err));
        w = weight(s, "model.layers.0.mlp.experts.1.down_proj.weight");
        CHECK(w && w->shape.rank == 2 && w->shape.dim[0] == 32);
        CHECK_U64(s->n_weights, 18);
        lb_source_close(&s);
    }
}

LB_TEST(lacking) {
    CHECK(refused(HEAD GATES DOWNS UP0, 2, LB_TO_MLX, "switch_mlp.up_proj.weight': 1 of the 2"));
    CHECK(refused(HEAD GATES DOWNS UP1, 2, LB_TO_MLX,
                  "switch_mlp.up_proj.weight': a part of expert 0 is missing"));
    CHECK(refused(HEAD GATES DOWNS UP0, 2, LB_TO_GGUF, "1 of 2 tensors 'model.layers.{b}.mlp"));
    CHECK(refused(HEAD, 2, LB_TO_GGUF, "0 of 2 tensors 'model.layers.{b}.mlp.experts.{e}.gate"));
}

LB_TEST(twice) {
    CHECK(refused(HEAD GATES DOWNS UP0 UP1
                  ";language_model.model.layers.0.mlp.experts.1.up_proj.weight F32 8 32",
                  2, LB_TO_MLX, "switch_mlp.up_proj.weight': "));
    CHECK(refused(HEAD GATES DOWNS UP0 UP1 STACKED, 2, LB_TO_MLX, "is there twice"));
    CHECK(refused(HEAD GATES DOWNS UP0 UP1 X "2.up_proj.weight F32 8 32", 2, LB_TO_MLX,
                  "switch_mlp.up_proj.weight': 3 of the 2"));
}

LB_TEST(other_counts) {
    CHECK(refused(HEAD STACKED, 3, LB_TO_MLX, "2 matrices, the config says 3 experts"));
    CHECK(refused(HEAD GATES DOWNS UP0 UP1, 3, LB_TO_MLX, "2 of the 3 matrices"));
    CHECK(refused(HEAD GATES DOWNS UP0 UP1, 1, LB_TO_MLX, "2 of the 1 matrices"));
    CHECK(refused(HEAD GATES DOWNS UP0 X "1.up_proj.weight F32 4 32", 2, LB_TO_MLX,
                  "up_proj.weight': the matrices that it is made of differ in shape"));
    CHECK(refused(HEAD X "gate_up_proj F32 2 15 32" X "down_proj F32 2 32 8", 2, LB_TO_MLX,
                  "15 rows do not divide"));
    CHECK(refused(HEAD X "gate_up_proj F32 16 32" X "down_proj F32 2 32 8", 2, LB_TO_MLX,
                  "one matrix for each expert"));
}

/* ---- what is made of codes comes last, as the reference appends it ---- */

#define PACKED(e, m, rows, words, groups) \
    X e "." m ".weight_packed I32 " rows " " words X e "." m ".weight_scale F32 " rows " " groups
#define PACKED_EXPERT(e)                  \
    PACKED(e, "gate_proj", "8", "4", "4") \
    PACKED(e, "up_proj", "8", "4", "4") PACKED(e, "down_proj", "32", "1", "1")
#define E "model.layers.0.mlp.experts."
#define SHAPES                                                                \
    E "0.gate_proj.weight_shape I64 2;" E "1.gate_proj.weight_shape I64 2;" E \
      "0.up_proj.weight_shape I64 2;" E "1.up_proj.weight_shape I64 2;" E     \
      "0.down_proj.weight_shape I64 2;" E "1.down_proj.weight_shape I64 2;"

static const char *packed_folder(void) {
    static const u64 shapes[6][2] = {{8, 32}, {8, 32}, {8, 32}, {8, 32}, {32, 8}, {32, 8}};
    const char *dir = st_dir("packed");
    size_t n;
    u8 *file = st_slurp(lb_test_golden("family/tokenizer.json"), &n);
    st_write(dir, "tokenizer.json", file, n);
    lb_free(file);
    st_text(dir, "config.json",
            "{\"architectures\": [\"Qwen3MoeForCausalLM\"], \"model_type\": \"qwen3_moe\","
            "\"hidden_size\": 32, \"intermediate_size\": 8, \"moe_intermediate_size\": 8,"
            "\"num_hidden_layers\": 1, \"num_attention_heads\": 2, \"vocab_size\": 400,"
            "\"num_key_value_heads\": 2, \"head_dim\": 16, \"num_experts\": 2,"
            "\"num_experts_per_tok\": 1, \"tie_word_embeddings\": true,"
            "\"quantization_config\": {\"quant_method\": \"compressed-tensors\","
            "\"format\": \"pack-quantized\", \"config_groups\": {\"group_0\": {\"targets\":"
            "[\"Linear\"], \"weights\": {\"num_bits\": 4, \"type\": \"int\","
            "\"symmetric\": true, \"strategy\": \"group\", \"group_size\": 8}}}}}");
    st_file(dir, "model.safetensors", "pt",
            SHAPES "model.embed_tokens.weight F32 400 32;model.norm.weight F32 32;"
                   "model.layers.0.input_layernorm.weight F32 32;"
                   "model.layers.0.post_attention_layernorm.weight F32 32;"
                   "model.layers.0.self_attn.q_proj.weight F32 32 32;"
                   "model.layers.0.self_attn.k_proj.weight F32 32 32;"
                   "model.layers.0.self_attn.v_proj.weight F32 32 32;"
                   "model.layers.0.self_attn.o_proj.weight F32 32 32;"
                   "model.layers.0.self_attn.q_norm.weight F32 16;"
                   "model.layers.0.self_attn.k_norm.weight F32 16;"
                   "model.layers.0.mlp.gate.weight F32 2 32" PACKED_EXPERT("0") PACKED_EXPERT("1"));
    file = st_slurp(st_path(dir, "model.safetensors"), &n);
    u64 header = 0;
    memcpy(&header, file, sizeof header);
    memcpy(file + 8 + header, shapes, sizeof shapes);
    st_write(dir, "model.safetensors", file, n);
    lb_free(file);
    return dir;
}

LB_TEST(unpacked_last) {
    static const char *const last[] = {"output_norm.weight", "blk.0.ffn_down_exps.weight",
                                       "blk.0.ffn_gate_exps.weight", "blk.0.ffn_up_exps.weight"};
    lb_err err;
    lb_source *s = NULL;
    const char *gguf = st_path(lb_test_dir(), "packed.gguf");
    CHECK_OK(convert(packed_folder(), LB_TO_GGUF, gguf, &err));
    CHECK_OK(lb_open(&s, gguf, &err));
    CHECK(s->n_tensors > LB_LEN(last));
    for (size_t i = 0; i < LB_LEN(last); i++)
        CHECK(lb_str_eq_c(s->tensors[s->n_tensors - LB_LEN(last) + i].name, last[i]));
    lb_source_close(&s);
}
#undef E

/* ---- a vector a head: stablelm ---- */

#define NORMS                                                                                  \
    "model.embed_tokens.weight F32 400 32;lm_head.weight F32 400 32;model.norm.weight F32 32;" \
    "model.layers.0.input_layernorm.weight F32 32;"                                            \
    "model.layers.0.self_attn.q_proj.weight F32 32 32;"                                        \
    "model.layers.0.self_attn.k_proj.weight F32 16 32;"                                        \
    "model.layers.0.self_attn.v_proj.weight F32 16 32;"                                        \
    "model.layers.0.self_attn.o_proj.weight F32 32 32;"                                        \
    "model.layers.0.mlp.gate_proj.weight F32 8 32;"                                            \
    "model.layers.0.mlp.up_proj.weight F32 8 32;model.layers.0.mlp.down_proj.weight F32 32 8"
#define Q ";model.layers.0.self_attn.q_layernorm.norms."
#define K ";model.layers.0.self_attn.k_layernorm.norms.0.weight F32 16"

static const char *heads(const char *tensors) {
    size_t n;
    const char *dir = st_dir("heads");
    u8 *tok = st_slurp(lb_test_golden("family/tokenizer.json"), &n);
    st_write(dir, "tokenizer.json", tok, n);
    lb_free(tok);
    st_text(dir, "config.json",
            "{\"architectures\": [\"StableLmForCausalLM\"], \"model_type\": \"stablelm\","
            "\"hidden_size\": 32, \"intermediate_size\": 8, \"num_hidden_layers\": 1,"
            "\"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"vocab_size\": 400,"
            "\"qk_layernorm\": true, \"use_parallel_residual\": true}");
    st_file(dir, "model.safetensors", "pt", tensors);
    return dir;
}

static bool heads_refused(const char *tensors, const char *word) {
    lb_err err;
    lb_status st = convert(heads(tensors), LB_TO_GGUF, st_path(lb_test_dir(), "h.gguf"), &err);
    bool ok = st == LB_E_FORMAT && strstr(err.msg, word);
    if (!ok)
        printf("    %d: %s\n", (int)st, err.msg);
    return ok;
}

LB_TEST(vectors_of_heads) {
    lb_err err;
    lb_source *s = NULL;
    const char *gguf = st_path(lb_test_dir(), "h.gguf");
    CHECK_OK(
        convert(heads(NORMS Q "1.weight F32 16" Q "0.weight F32 16" K), LB_TO_GGUF, gguf, &err));
    CHECK_OK(lb_open(&s, gguf, &err));
    const lb_weight *w = weight(s, "blk.0.attn_q_norm.weight");
    CHECK(w && w->shape.rank == 2 && w->shape.dim[0] == 2 && w->shape.dim[1] == 16);
    w = weight(s, "blk.0.attn_k_norm.weight");
    CHECK(w && w->shape.rank == 2 && w->shape.dim[0] == 1 && w->shape.dim[1] == 16);
    lb_source_close(&s);
    CHECK(heads_refused(NORMS Q "0.weight F32 16" K, "attn_q_norm.weight': 1 of the 2"));
    CHECK(heads_refused(NORMS Q "0.weight F32 16" Q "2.weight F32 16" K, "is missing or"));
    CHECK(heads_refused(NORMS Q "0.weight F32 16" Q "1.weight F32 8" K, "differ in shape"));
}

/* ---- q, k and v of one matrix: --fuse-qkv, and GGUF files of chatglm's older class ---- */

#define N_QKV (16 * 8 + 16 + 8) /* 2 heads of 4, 1 key-value head, hidden 8; bias; embedding */

static void put_u32(lb_buf *b, const char *arch, const char *key, u32 v) {
    char text[64];
    snprintf(text, sizeof text, "%s.%s", arch, key);
    gb_kv_u32(b, text, v);
}

static const char *fused_gguf(const char *arch, u32 rope_dims) {
    static const struct {
        const char *key;
        u32 v;
    } kv[] = {{"block_count", 1},     {"embedding_length", 8},     {"feed_forward_length", 4},
              {"context_length", 64}, {"attention.head_count", 2}, {"attention.head_count_kv", 1}};
    lb_buf b = {0};
    char text[64];
    gb_head(&b, 3, 3, LB_LEN(kv) + 8);
    gb_kv_str(&b, "general.architecture", arch);
    for (size_t i = 0; i < LB_LEN(kv); i++)
        put_u32(&b, arch, kv[i].key, kv[i].v);
    put_u32(&b, arch, "rope.dimension_count", rope_dims);
    snprintf(text, sizeof text, "%s.attention.layer_norm_rms_epsilon", arch);
    gb_key(&b, text, LB_GGUF_F32);
    lb_buf_put_u32(&b, lb_f32_bits(1e-5f));
    gb_kv_str(&b, "tokenizer.ggml.model", "gpt2");
    gb_kv_str(&b, "tokenizer.ggml.pre", "gpt-2");
    gb_array(&b, "tokenizer.ggml.tokens", LB_GGUF_STR, 1);
    gb_str(&b, "a");
    gb_array(&b, "tokenizer.ggml.token_type", LB_GGUF_I32, 1);
    lb_buf_put_u32(&b, 1);
    gb_array(&b, "tokenizer.ggml.merges", LB_GGUF_STR, 1);
    gb_str(&b, "a a");
    gb_info(&b, "blk.0.attn_qkv.weight", 2, (const u64[]){8, 16}, 0, 0);
    gb_info(&b, "blk.0.attn_qkv.bias", 1, (const u64[]){16}, 0, 16 * 8 * 4);
    gb_info(&b, "token_embd.weight", 2, (const u64[]){8, 1}, 0, (16 * 8 + 16) * 4);
    gb_pad(&b, 32);
    for (u32 i = 0; i < N_QKV; i++)
        lb_buf_put_u32(&b, lb_f32_bits((float)i));
    const char *path = gb_save(&b, lb_test_dir(), "fused.gguf");
    lb_buf_deinit(&b);
    return path;
}

/* The stored weight, F32, is n rows of the file's matrix (or bias, from 128 on), `from` and on,
 * those of each head of 4 in this order; the file's values count up. */
static bool has_rows(const lb_source *s, const char *name, u32 from, u32 n, const u32 *order) {
    const lb_weight *w = weight(s, name);
    const lb_tensor *t = w ? &s->tensors[w->part[0]] : NULL;
    u32 n_cols = w && w->shape.rank == 2 ? 8 : 1, base = n_cols == 8 ? 0 : 128;
    float values[64];
    int fd = -1;
    if (!t || t->dtype != LB_F32 || t->n_elems != (u64)n * n_cols || t->n_elems > LB_LEN(values) ||
        lb_os_open_read(s->files[t->file].path, &fd, NULL) != LB_OK)
        return false;
    lb_status st = lb_os_pread(fd, "t", values, t->n_elems * 4, t->off_bytes, NULL);
    lb_os_close(&fd);
    for (u32 i = 0; i < n * n_cols; i++) {
        u32 row = i / n_cols, of = from + row / 4 * 4 + order[row % 4];
        if (st != LB_OK || values[i] != (float)(base + of * n_cols + i % n_cols))
            return false;
    }
    return true;
}

static bool parted(const char *arch, u32 rope_dims, const u32 *order) {
    static const u32 as_is[4] = {0, 1, 2, 3};
    lb_err err;
    lb_source *s = NULL;
    const char *hf = st_path(lb_test_dir(), "parted");
    bool ok = convert(fused_gguf(arch, rope_dims), LB_TO_HF, hf, &err) == LB_OK &&
              lb_open(&s, hf, &err) == LB_OK && s->n_weights == 7 &&
              has_rows(s, "model.layers.0.self_attn.q_proj.weight", 0, 8, order) &&
              has_rows(s, "model.layers.0.self_attn.k_proj.weight", 8, 4, order) &&
              has_rows(s, "model.layers.0.self_attn.v_proj.weight", 12, 4, as_is) &&
              has_rows(s, "model.layers.0.self_attn.q_proj.bias", 0, 8, order) &&
              has_rows(s, "model.layers.0.self_attn.k_proj.bias", 8, 4, order) &&
              has_rows(s, "model.layers.0.self_attn.v_proj.bias", 12, 4, as_is);
    lb_source_close(&s);
    return ok;
}

LB_TEST(fused_in_gguf_alone) {
    CHECK(parted("chatglm", 2, (const u32[]){0, 1, 2, 3}));
    CHECK(parted("llama", 4, (const u32[]){0, 2, 1, 3})); /* pairs become halves again */
}

/* ---- codes of a Conv1D ---- */

#define H "transformer.h.0."
#define GPT2                                                                                     \
    "transformer.wte.weight F32 300 32;transformer.wpe.weight F32 16 32;"                        \
    "transformer.ln_f.weight F32 32;transformer.ln_f.bias F32 32;" H "ln_1.weight F32 32;" H     \
    "ln_1.bias F32 32;" H "ln_2.weight F32 32;" H "ln_2.bias F32 32;" H                          \
    "attn.c_attn.bias F32 96;" H "attn.c_proj.weight F32 32 32;" H "attn.c_proj.bias F32 32;" H  \
    "mlp.c_fc.weight F32 32 128;" H "mlp.c_fc.bias F32 128;" H "mlp.c_proj.weight F32 128 32;" H \
    "mlp.c_proj.bias F32 32;" H

static const char *gpt2(const char *quantization, const char *c_attn) {
    char config[640], tensors[2048];
    const char *dir = st_dir("gpt2");
    size_t n;
    (void)snprintf(config, sizeof config,
                   "{\"architectures\": [\"GPT2LMHeadModel\"], \"model_type\": \"gpt2\","
                   "\"n_embd\": 32, \"n_head\": 2, \"n_layer\": 1, \"n_ctx\": 16,"
                   "\"n_positions\": 16, \"vocab_size\": 300, \"layer_norm_epsilon\": 1e-5,"
                   "\"quantization_config\": {%s}}",
                   quantization);
    st_text(dir, "config.json", config);
    u8 *file = st_slurp(lb_test_golden("family/tokenizer.json"), &n);
    st_write(dir, "tokenizer.json", file, n);
    lb_free(file);
    (void)snprintf(tensors, sizeof tensors, GPT2 "%s", c_attn);
    st_file(dir, "model.safetensors", "pt", tensors);
    return dir;
}

static void poke(const char *dir, const char *name, u64 at, const void *bytes, size_t n) {
    lb_err err = {0};
    lb_source *s = NULL;
    CHECK_OK(lb_open(&s, dir, &err));
    const lb_tensor *t = lb_source_tensor(s, lb_str_c(name));
    FILE *f = fopen(s->files[t->file].path, "r+b");
    CHECK(f && fseek(f, (long)(t->off_bytes + at), SEEK_SET) == 0 && fwrite(bytes, n, 1, f) == 1);
    CHECK(fclose(f) == 0);
    lb_source_close(&s);
}

/* The stored matrix, F32 of this shape, has the value there. */
static bool has_value(const char *path, const char *name, u64 rows, u64 cols, u64 at, float want) {
    lb_err err = {0};
    lb_source *s = NULL;
    float v = -1;
    int fd = -1;
    bool ok = lb_open(&s, path, &err) == LB_OK;
    const lb_weight *w = ok ? weight(s, name) : NULL;
    const lb_tensor *t = w ? &s->tensors[w->part[0]] : NULL;
    ok = t && t->dtype == LB_F32 && w->shape.rank == 2 && w->shape.dim[0] == rows &&
         w->shape.dim[1] == cols && lb_os_open_read(s->files[t->file].path, &fd, NULL) == LB_OK &&
         lb_os_pread(fd, "t", &v, 4, t->off_bytes + 4 * at, NULL) == LB_OK;
    lb_os_close(&fd);
    lb_source_close(&s);
    if (!ok || v != want)
        printf("    %s: %g (%s)\n", name, (double)v, err.msg);
    return ok && v == want;
}

/* Code 11 less zero point 8, at input 5 and output 9: a Conv1D has it there, others upright. */
LB_TEST(codes_of_conv1d) {
    static const char *const c_attn =
        "attn.c_attn.qweight I32 4 96;" H "attn.c_attn.qzeros I32 1 12;" H
        "attn.c_attn.scales F16 1 96;" H "attn.c_attn.g_idx I32 0";
    const char *dir = gpt2("\"quant_method\": \"gptq\", \"bits\": 4, \"group_size\": 32", c_attn);
    const u32 word = 11u << 20, zeros = 7u << 4;
    const u16 half = 0x3800;
    lb_err err;
    poke(dir, H "attn.c_attn.qweight", 4 * 9, &word, 4);
    poke(dir, H "attn.c_attn.qzeros", 4, &zeros, 4);
    poke(dir, H "attn.c_attn.scales", 2 * 9, &half, 2);
    const char *hf = st_path(lb_test_dir(), "conv1d"), *gguf = st_path(lb_test_dir(), "c.gguf"),
               *mlx = st_path(lb_test_dir(), "conv1d-mlx");
    CHECK_OK(convert_as(dir, LB_TO_HF, hf, LB_F32, &err));
    CHECK(has_value(hf, H "attn.c_attn.weight", 32, 96, 5 * 96 + 9, 1.5f));
    CHECK(has_value(hf, H "attn.c_attn.weight", 32, 96, 6 * 96 + 9, -4.0f));
    CHECK_OK(convert_as(dir, LB_TO_GGUF, gguf, LB_F32, &err));
    CHECK(has_value(gguf, "blk.0.attn_qkv.weight", 96, 32, 9 * 32 + 5, 1.5f));
    CHECK_OK(convert_as(dir, LB_TO_MLX, mlx, LB_F32, &err));
    CHECK(has_value(mlx, "model.h.0.attn.c_attn.weight", 96, 32, 9 * 32 + 5, 1.5f));
    dir = gpt2("\"quant_method\": \"fp8\"",
               "attn.c_attn.weight F8_E4M3 32 96;" H "attn.c_attn.weight_scale F32 1");
    CHECK(convert_as(dir, LB_TO_GGUF, gguf, LB_F32, &err) == LB_E_UNSUPPORTED &&
          strstr(err.msg, "Conv1D"));
}

LB_TEST_MAIN("fast")
