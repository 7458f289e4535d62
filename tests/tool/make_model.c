/* SPDX-License-Identifier: Apache-2.0 */
/* make_model.c: writes a made-up model (tests/unit/fake_model.h) for the tests of the command line
 * and for the demo without a network.
 *
 *   make_model hf|gguf FAMILY DIR [KEY=VALUE]...
 *
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

int main(int argc, char **argv) {
    lb_err err = {0};
    lb_arena perm = {0};
    int family = 0;
    if (argc < 4)
        return fail("usage", "make_model hf|gguf FAMILY DIR [KEY=VALUE]...");
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
    lb_status st = strcmp(argv[1], "gguf") == 0
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
