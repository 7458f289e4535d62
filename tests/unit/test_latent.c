/* SPDX-License-Identifier: Apache-2.0 */
/* test_latent.c: kv_b_proj of latent attention, in every form that it is stored in: fused, split by
 * heads with the keys' rows transposed, and back. */
#include "base/cpu.h"
#include "base/os.h"
#include "gguf_build.h"
#include "ops/convert.h"
#include "ops/diff.h"
#include "ops/open.h"
#include "st_files.h"
#include "test.h"
#include <string.h>

enum { HEADS = 2, NOPE = 2, VALUE = 3, RANK = 4, HEAD = NOPE + VALUE, N = HEADS * HEAD * RANK };
static const u64 fused_ne[] = {RANK, HEADS *HEAD};
static const u64 k_ne[] = {NOPE, RANK, HEADS}, v_ne[] = {RANK, VALUE, HEADS};

/* kv_b_proj counts from 0 by rows: what stands at each place of the split forms. */
static void split(float *k, float *v) {
    for (u32 h = 0; h < HEADS; h++)
        for (u32 r = 0; r < RANK; r++)
            for (u32 i = 0; i < NOPE; i++)
                *k++ = (float)((h * HEAD + i) * RANK + r);
    for (u32 h = 0; h < HEADS; h++)
        for (u32 i = 0; i < VALUE; i++)
            for (u32 r = 0; r < RANK; r++)
                *v++ = (float)((h * HEAD + NOPE + i) * RANK + r);
}

static void put_floats(lb_buf *b, const float *x, u32 n) {
    for (u32 i = 0; i < n; i++)
        lb_buf_put_u32(b, lb_f32_bits(x[i]));
}

static void put_count(lb_buf *b, u32 n) {
    for (u32 i = 0; i < n; i++)
        lb_buf_put_u32(b, lb_f32_bits((float)i));
}

/* ---- GGUF ---- */

typedef struct gguf_form {
    bool old;    /* attn_kv_b, and the keys of that time */
    u32 n_head;  /* as the metadata says */
    u32 rope;    /* rope.dimension_count: the rest of a key is NOPE */
    bool lack_v; /* without attn_v_b */
} gguf_form;

static void put_keys(lb_buf *b, const gguf_form *f) {
    const struct {
        const char *key;
        u32 v;
    } kv[] = {
        {"deepseek2.block_count", 1},
        {"deepseek2.embedding_length", 8},
        {"deepseek2.feed_forward_length", 4},
        {"deepseek2.context_length", 64},
        {"deepseek2.attention.head_count", f->n_head},
        {"deepseek2.attention.head_count_kv", f->old ? f->n_head : 1},
        {"deepseek2.attention.key_length", f->old ? NOPE + 2 : RANK + 2},
        {"deepseek2.attention.value_length", f->old ? VALUE : RANK},
        {"deepseek2.attention.kv_lora_rank", RANK},
        {"deepseek2.rope.dimension_count", f->rope},
        {"deepseek2.expert_count", 2},
        {"deepseek2.expert_used_count", 1},
        {"deepseek2.expert_feed_forward_length", 4},
        {"deepseek2.expert_gating_func", 2},
        {f->old ? "deepseek2.vocab_size" : "deepseek2.attention.key_length_mla",
         f->old ? 1 : NOPE + 2},
        {f->old ? "deepseek2.leading_dense_block_count" : "deepseek2.attention.value_length_mla",
         f->old ? 1 : VALUE}};
    gb_head(b, 3, f->old || f->lack_v ? 3 : 4, LB_LEN(kv) + 7);
    gb_kv_str(b, "general.architecture", "deepseek2");
    for (size_t i = 0; i < LB_LEN(kv); i++)
        gb_kv_u32(b, kv[i].key, kv[i].v);
    gb_key(b, "deepseek2.attention.layer_norm_rms_epsilon", LB_GGUF_F32);
    lb_buf_put_u32(b, lb_f32_bits(1e-6f));
    gb_kv_str(b, "tokenizer.ggml.model", "gpt2");
    gb_kv_str(b, "tokenizer.ggml.pre", "gpt-2");
    gb_array(b, "tokenizer.ggml.tokens", LB_GGUF_STR, 1);
    gb_str(b, "a");
    gb_array(b, "tokenizer.ggml.token_type", LB_GGUF_I32, 1);
    lb_buf_put_u32(b, 1);
    gb_array(b, "tokenizer.ggml.merges", LB_GGUF_STR, 1);
    gb_str(b, "a a");
}

static const char *gguf(const gguf_form *f) {
    float k[HEADS * RANK * NOPE], v[HEADS * VALUE * RANK];
    u32 n_k = f->old ? N : HEADS * RANK * NOPE, n_v = f->old || f->lack_v ? 0 : LB_LEN(v);
    lb_buf b = {0};
    split(k, v);
    put_keys(&b, f);
    if (f->old)
        gb_info(&b, "blk.0.attn_kv_b.weight", 2, fused_ne, 0, 0);
    else
        gb_info(&b, "blk.0.attn_k_b.weight", 3, k_ne, 0, 0);
    if (n_v)
        gb_info(&b, "blk.0.attn_v_b.weight", 3, v_ne, 0, n_k * 4);
    gb_info(&b, "token_embd.weight", 2, (const u64[]){8, 1}, 0, (n_k + n_v) * 4);
    gb_info(&b, "output.weight", 2, (const u64[]){8, 1}, 0, (n_k + n_v + 8) * 4);
    gb_pad(&b, 32);
    if (f->old)
        put_count(&b, N);
    else
        put_floats(&b, k, n_k);
    put_floats(&b, v, n_v);
    put_count(&b, 8);
    put_count(&b, 8);
    const char *path = gb_save(&b, lb_test_dir(), "latent.gguf");
    lb_buf_deinit(&b);
    return path;
}

/* ---- folders ---- */

#define A "model.layers.0.self_attn."

static const char *folder(const char *name, const char *format, const char *model_type) {
    char config[512], header[256];
    lb_buf b = {0};
    const char *dir = st_dir(name);
    bool v2 = strcmp(model_type, "deepseek_v2") == 0;
    (void)snprintf(config, sizeof config,
                   "{\"architectures\": [\"Deepseek%sForCausalLM\"], \"model_type\": \"%s\","
                   "\"hidden_size\": 8, \"intermediate_size\": 4, \"num_hidden_layers\": 1,"
                   "\"num_attention_heads\": %d, \"num_key_value_heads\": 2, \"vocab_size\": 1,"
                   "\"qk_nope_head_dim\": %d,"
                   "\"qk_rope_head_dim\": 2, \"v_head_dim\": %d, \"kv_lora_rank\": %d,"
                   "\"n_routed_experts\": 2, \"num_experts_per_tok\": 1}",
                   v2 ? "V2" : "V3", model_type, HEADS, NOPE, VALUE, RANK);
    st_text(dir, "config.json", config);
    (void)snprintf(header, sizeof header,
                   "{\"__metadata__\":{\"format\":\"%s\"},\"" A
                   "kv_b_proj.weight\":{\"dtype\":\"F32\",\"shape\":[%d,%d],"
                   "\"data_offsets\":[0,%d]}}",
                   format, HEADS * HEAD, RANK, N * 4);
    lb_buf_put_u64(&b, strlen(header));
    lb_buf_put_c(&b, header);
    put_count(&b, N);
    st_write(dir, "model.safetensors", b.ptr, b.len);
    lb_buf_deinit(&b);
    return dir;
}

static lb_status convert(const char *from, lb_to to, const char *out, lb_err *err) {
    lb_kernels k;
    lb_source *s = NULL;
    lb_buf plan = {0}, remarks = {0};
    lb_out_report report;
    lb_kernels_init(&k, lb_cpu_isa());
    lb_convert_opts o = {.verb = "convert",
                         .w = {.to = to,
                               .kernels = &k,
                               .output = out,
                               .no_sync = true,
                               .force = true,
                               .memory_bytes = 64 * LB_MIB,
                               .threads = 2}};
    *err = (lb_err){0};
    lb_status st = lb_open(&s, from, err);
    if (st == LB_OK)
        st = lb_convert(s, &o, &plan, &remarks, &report, err);
    lb_source_close(&s);
    lb_buf_deinit(&plan);
    lb_buf_deinit(&remarks);
    return st;
}

static bool holds(const char *path, const char *name, u32 rank, const u64 *ne, const float *want) {
    lb_source *s = NULL;
    lb_err err;
    float got[N];
    int fd = -1;
    if (lb_open(&s, path, &err) != LB_OK)
        return false;
    const lb_weight *w = lb_source_weight(s, lb_str_c(name));
    const lb_tensor *t = w ? &s->tensors[w->part[0]] : NULL;
    bool ok = t && t->dtype == LB_F32 && w->shape.rank == rank && t->n_elems <= N &&
              lb_os_open_read(s->files[t->file].path, &fd, NULL) == LB_OK;
    for (u32 i = 0; ok && i < rank; i++)
        ok = w->shape.dim[i] == ne[rank - 1 - i];
    ok = ok && lb_os_pread(fd, "t", got, t->size_bytes, t->off_bytes, NULL) == LB_OK &&
         memcmp(got, want, t->size_bytes) == 0;
    lb_os_close(&fd);
    lb_source_close(&s);
    return ok;
}

static bool holds_fused(const char *path, const char *name) {
    float count[N];
    for (u32 i = 0; i < N; i++)
        count[i] = (float)i;
    return holds(path, name, 2, fused_ne, count);
}

static bool holds_split(const char *path, const char *k_name, const char *v_name) {
    float k[HEADS * RANK * NOPE], v[HEADS * VALUE * RANK];
    split(k, v);
    return holds(path, k_name, 3, k_ne, k) && holds(path, v_name, 3, v_ne, v);
}

/* ---- tests ---- */

static bool refused(const char *from, const char *word) {
    lb_err err;
    lb_status st = convert(from, LB_TO_HF, st_path(lb_test_dir(), "out"), &err);
    bool ok = st == LB_E_FORMAT && strstr(err.msg, word);
    if (!ok)
        printf("    %d: %s\n", (int)st, err.msg);
    return ok;
}

LB_TEST(from_gguf) {
    const char *hf = st_path(lb_test_dir(), "hf"), *mlx = st_path(lb_test_dir(), "mlx");
    lb_err err;
    for (u32 old = 0; old < 2; old++) {
        gguf_form f = {.old = old != 0, .n_head = HEADS, .rope = 2};
        CHECK_OK(convert(gguf(&f), LB_TO_HF, hf, &err));
        CHECK(holds_fused(hf, A "kv_b_proj.weight"));
        CHECK_OK(convert(gguf(&f), LB_TO_MLX, mlx, &err));
        CHECK(holds_split(mlx, A "embed_q.weight", A "unembed_out.weight"));
    }
}

LB_TEST(from_folders) {
    const char *mlx = st_path(lb_test_dir(), "mlx"), *back = st_path(lb_test_dir(), "back");
    lb_err err;
    CHECK_OK(convert(folder("v3", "pt", "deepseek_v3"), LB_TO_MLX, mlx, &err));
    CHECK(holds_split(mlx, A "embed_q.weight", A "unembed_out.weight"));
    CHECK_OK(convert(mlx, LB_TO_HF, back, &err));
    CHECK(holds_fused(back, A "kv_b_proj.weight"));
    /* kimi_k2 has no config class, mlx-lm takes deepseek_v3's for it */
    CHECK_OK(convert(folder("k2", "pt", "kimi_k2"), LB_TO_MLX, mlx, &err));
    CHECK(holds_split(mlx, A "embed_q.weight", A "unembed_out.weight"));
    /* mlx-lm keeps it fused for deepseek_v2, and kept it so */
    CHECK_OK(convert(folder("v2", "pt", "deepseek_v2"), LB_TO_MLX, mlx, &err));
    CHECK(holds_fused(mlx, A "kv_b_proj.weight"));
    CHECK_OK(convert(folder("old", "mlx", "deepseek_v3"), LB_TO_HF, back, &err));
    CHECK(holds_fused(back, A "kv_b_proj.weight"));
}

LB_TEST(misfits) {
    CHECK(refused(gguf(&(gguf_form){.n_head = 4, .rope = 2}), "2 matrices, the config says 4"));
    CHECK(refused(gguf(&(gguf_form){.old = true, .n_head = 4, .rope = 2}),
                  "is not a matrix of 4 heads"));
    CHECK(refused(gguf(&(gguf_form){.old = true, .n_head = 2, .rope = 1}),
                  "5 rows do not divide into the parts"));
    CHECK(refused(gguf(&(gguf_form){.n_head = 2, .rope = 2, .lack_v = true}),
                  "a part of head 0 is missing"));
    CHECK(refused(gguf(&(gguf_form){.n_head = 2, .rope = 4}), "4 of the 4 values of a key"));
}

LB_TEST(compared) {
    lb_err err;
    lb_kernels k;
    lb_arena perm = {0};
    lb_source *a = NULL, *b = NULL;
    lb_diff d;
    const char *mlx = st_path(lb_test_dir(), "mlx"), *hf = folder("v3", "pt", "deepseek_v3");
    lb_kernels_init(&k, lb_cpu_isa());
    CHECK_OK(convert(hf, LB_TO_MLX, mlx, &err));
    CHECK_OK(lb_open(&a, hf, &err));
    CHECK_OK(lb_open(&b, mlx, &err));
    lb_diff_options o = {.kernels = &k, .n_threads = 1, .memory_bytes = 64 * LB_MIB};
    CHECK_OK(lb_diff_run(&d, a, b, &o, &perm, &err));
    CHECK_U64(d.n_rows, 2 * HEADS); /* each head's keys, each head's values */
    CHECK_U64(d.n_only_in_a + d.n_only_in_b, 0);
    for (u64 i = 0; i < d.n_rows; i++)
        CHECK(d.rows[i].identical);
    lb_source_close(&a);
    lb_source_close(&b);
    lb_arena_deinit(&perm);
}

LB_TEST_MAIN("fast")
