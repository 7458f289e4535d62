/* SPDX-License-Identifier: Apache-2.0 */
/* make_model.c: writes a made-up model (tests/unit/fake_model.h) for the tests of the command line
 * and for the demo without a network.
 *
 *   make_model hf|gguf|imatrix FAMILY DIR [KEY=VALUE]...
 *
 * imatrix: DIR is a legacy importance file for the GGUF's matrices, experts each their own.
 * FAMILY: llama, qwen2, qwen3, gemma3, qwen3moe. Keys: layers, hidden, ffn, heads, kv_heads,
 * head_dim, vocab, experts, seed, shard (bytes of a file), dtype, sparse (1: holes instead of
 * values), tied; tok (hf only): bytes, pieces or model adds a tokenizer of vocab tokens,
 * byte-level, SentencePiece-like, and that with a tokenizer.model. Prints the path of what it
 * wrote: the folder, or the (first) GGUF file. */
#include "fake_model.h"
#include <stdio.h>
#include <stdlib.h>

static int fail(const char *what, const char *arg) {
    fprintf(stderr, "make_model: %s: %s\n", what, arg);
    return 2;
}

static bool set(fm_spec *s, fm_tok *tok, lb_str key, const char *value) {
    const struct {
        const char *name;
        u64 *field;
    } fields[] = {
        {"layers", &s->n_layers}, {"hidden", &s->hidden},       {"ffn", &s->ffn},
        {"heads", &s->n_heads},   {"kv_heads", &s->n_kv_heads}, {"head_dim", &s->head_dim},
        {"vocab", &s->vocab},     {"experts", &s->n_experts},   {"shard", &s->max_file_bytes},
        {"seed", &s->seed},       {"used", &s->n_experts_used}};
    u64 n;
    if (lb_str_eq_c(key, "dtype"))
        return lb_dtype_find(lb_str_c(value), &s->dtype);
    if (lb_str_eq_c(key, "tok")) {
        tok->n_vocab = 1;
        tok->bytes = strcmp(value, "bytes") == 0;
        tok->model = strcmp(value, "model") == 0;
        return tok->bytes || tok->model || strcmp(value, "pieces") == 0;
    }
    if (!lb_str_to_u64(lb_str_c(value), &n))
        return false;
    if (lb_str_eq_c(key, "sparse")) {
        s->sparse = n != 0;
        return true;
    }
    if (lb_str_eq_c(key, "tied")) {
        s->tied = n != 0;
        return true;
    }
    for (u32 i = 0; i < LB_LEN(fields); i++)
        if (lb_str_eq_c(key, fields[i].name)) {
            *fields[i].field = n;
            return true;
        }
    return false;
}

/* ---- importance ---- */

static void put_i32(lb_buf *b, u64 v) {
    u8 bytes[4];
    lb_store_u32(bytes, (u32)v);
    lb_buf_put(b, bytes, sizeof bytes);
}

/* 0 to 16, some of them 0: what is measured is a mean of squares. */
static void put_weights(lb_buf *b, u64 seed, u64 n) {
    for (u64 i = 0; i < n; i++) {
        u64 h = (seed * 1000003 + i + 1) * 0x9e3779b97f4a7c15u;
        float v = h >> 60 == 0 ? 0 : (float)(h >> 54) / 64;
        put_i32(b, lb_f32_bits(v * 3)); /* of three calls */
    }
}

static lb_status write_importance(const char *path, const fm_spec *spec, lb_arena *perm,
                                  lb_err *err) {
    fm_tensor *t;
    u64 n, n_entries = 0;
    lb_buf b = {0};
    FILE *f = NULL;
    LB_TRY(fm_tensors(spec, perm, &t, &n, err));
    for (u32 pass = 0; pass < 2; pass++) {
        if (pass)
            put_i32(&b, n_entries);
        for (u64 i = 0; i < n; i++) {
            u64 values = t[i].dim[1] * LB_MAX(t[i].n_stack, 1);
            if (t[i].fill != FM_MATRIX || t[i].f32_in_gguf || t[i].rank != 2)
                continue;
            n_entries += pass == 0;
            if (pass == 0)
                continue;
            put_i32(&b, t[i].gguf.len);
            lb_buf_put_str(&b, t[i].gguf);
            put_i32(&b, 3);
            put_i32(&b, values);
            put_weights(&b, i + spec->seed, values);
        }
    }
    put_i32(&b, 7);
    put_i32(&b, 8);
    lb_buf_put_c(&b, "text.raw");
    lb_status st = lb_buf_status(&b, err);
    if (st == LB_OK && (!(f = fopen(path, "wb")) || fwrite(b.ptr, 1, b.len, f) != b.len))
        st = lb_fail(err, LB_E_IO, "cannot be written");
    if (f && fclose(f) != 0 && st == LB_OK)
        st = lb_fail(err, LB_E_IO, "cannot be written");
    lb_buf_deinit(&b);
    return st;
}

int main(int argc, char **argv) {
    lb_err err = {0};
    lb_arena perm = {0};
    int family = 0;
    if (argc < 4)
        return fail("usage", "make_model hf|gguf|imatrix FAMILY DIR [KEY=VALUE]...");
    const char *path = argv[3];
    while (family < FM_FAMILIES && strcmp(fm_family_name((fm_family)family), argv[2]) != 0)
        family++;
    if (family == FM_FAMILIES)
        return fail("no such family", argv[2]);
    fm_spec spec = fm_tiny((fm_family)family);
    fm_tok tok = {0};
    for (int i = 4; i < argc; i++) {
        const char *eq = strchr(argv[i], '=');
        if (!eq || !set(&spec, &tok, (lb_str){argv[i], (size_t)(eq - argv[i])}, eq + 1))
            return fail("not a KEY=VALUE", argv[i]);
    }
    lb_status st = strcmp(argv[1], "imatrix") == 0 ? write_importance(path, &spec, &perm, &err)
                   : strcmp(argv[1], "gguf") == 0
                       ? fm_write_gguf(path, "model", &spec, &perm, &path, &err)
                       : fm_write_hf(path, &spec, &err);
    if (st == LB_OK && tok.n_vocab) {
        tok.n_vocab = spec.vocab;
        st = fm_write_tokenizer(path, &tok, &err);
    }
    if (st == LB_OK)
        puts(path);
    else
        (void)fail(argv[3], err.msg);
    lb_arena_deinit(&perm);
    return lb_status_exit(st);
}
