/* SPDX-License-Identifier: Apache-2.0 */
/* test_hf_take.c: a tokenizer taken from the keys of a GGUF gives the ids of the tokenizer.json
 * that is made of the same keys and read: random vocabularies of each kind, with scores that tie,
 * tokens of every type, merges that lead nowhere, and random texts. */
#include "test.h"
#include "text/hf_encode.h"
#include "text/hf_take.h"
#include "text/spm.h"
#include "text/tok_rebuild.h"
#include "tokhelp.h"
#include <stdio.h>

#define SPACE "\xe2\x96\x81"

static u32 random_below(u64 *state, u32 n) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (u32)(*state >> 33) % n;
}

/* One to five pieces of a small alphabet: most pairs of them are a token, too. */
static size_t random_token(u64 *r, bool bytes, char *out, size_t room) {
    static const char *const pieces[] = {"a", "b", "ab", "\xc3\xa9", SPACE};
    static const char *const alphabet[] = {"a", "b", "ab", "\xc3\x83", "\xc4\xa0"};
    size_t n = 0;
    u32 count = 1 + random_below(r, 5);
    for (u32 i = 0; i < count; i++)
        n += (size_t)snprintf(out + n, room - n, "%s",
                              (bytes ? alphabet : pieces)[random_below(r, 5)]);
    return n;
}

enum { TOKENS_MAX = 160, MERGES_MAX = 400 };

typedef struct vocab {
    lb_str token[TOKENS_MAX], merge[MERGES_MAX];
    i32 type[TOKENS_MAX];
    float score[TOKENS_MAX];
    u64 n, n_merges;
} vocab;

static void put(vocab *v, lb_arena *a, const char *text, size_t len, i32 type, float score) {
    for (u64 i = 0; i < v->n; i++)
        if (lb_str_eq(v->token[i], (lb_str){text, len}))
            return;
    v->type[v->n] = type;
    v->score[v->n] = score;
    v->token[v->n++] = lb_arena_str(a, (lb_str){text, len});
}

static void make_vocab(vocab *v, const char *kind, u64 *r, lb_arena *a) {
    char text[64];
    bool bytes = strcmp(kind, "gpt2") == 0;
    v->n = v->n_merges = 0;
    put(v, a, "<unk>", 5, LB_SPM_UNKNOWN, 0);
    put(v, a, "<s>", 3, LB_SPM_CONTROL, 0);
    put(v, a, "</s>", 4, LB_SPM_CONTROL, 0);
    for (u32 i = 0; i < 40 && !bytes; i++) {
        int n = snprintf(text, sizeof text, "<0x%02X>", i);
        put(v, a, text, (size_t)n, LB_SPM_BYTE, 0);
    }
    while (v->n < 130) {
        static const i32 types[] = {1, 1, 1, 1, 1, 1, 1, 1, 4, 3};
        size_t n = random_token(r, bytes, text, sizeof text);
        i32 type = types[random_below(r, LB_LEN(types))];
        if (strcmp(kind, "bert") == 0) /* an added token may be the text of a marked one */
            type = LB_SPM_NORMAL;
        put(v, a, text, n, type, -(float)random_below(r, 30) / 2);
    }
    while (v->n_merges < 300) {
        char both[128];
        size_t n = random_token(r, bytes, both, 60);
        both[n++] = ' ';
        n += random_token(r, bytes, both + n, 60);
        v->merge[v->n_merges++] = lb_arena_str(a, (lb_str){both, n});
    }
}

static lb_status put_meta(const vocab *v, const char *kind, u64 *r, lb_gguf_meta *m, lb_err *err) {
    LB_TRY(lb_meta_set_str(m, "tokenizer.ggml.model", lb_str_c(kind), err));
    LB_TRY(lb_meta_set_array(m, "tokenizer.ggml.tokens", LB_GGUF_STR, v->n, v->token, err));
    LB_TRY(lb_meta_set_array(m, "tokenizer.ggml.token_type", LB_GGUF_I32, v->n, v->type, err));
    LB_TRY(lb_meta_set_array(m, "tokenizer.ggml.scores", LB_GGUF_F32, v->n, v->score, err));
    LB_TRY(lb_meta_set_array(m, "tokenizer.ggml.merges", LB_GGUF_STR, v->n_merges, v->merge, err));
    LB_TRY(lb_meta_set_u32(m, "tokenizer.ggml.unknown_token_id", 0, err));
    LB_TRY(lb_meta_set_u32(m, "tokenizer.ggml.bos_token_id", 1, err));
    LB_TRY(lb_meta_set_u32(m, "tokenizer.ggml.eos_token_id", 2, err));
    LB_TRY(lb_meta_set_u32(m, "tokenizer.ggml.seperator_token_id", 2, err));
    return lb_meta_set_bool(m, "tokenizer.ggml.add_space_prefix", random_below(r, 2), err);
}

typedef struct taken {
    lb_hf_tok tok;
    lb_arena *arena;
} taken;

static lb_status take(void *ctx, const lb_hf_parts *p, lb_err *err) {
    taken *t = ctx;
    return lb_hf_tok_take(&t->tok, p, "taken", t->arena, err);
}

static lb_status read_made(lb_hf_tok *t, const lb_gguf_meta *m, lb_arena *a, lb_err *err) {
    const lb_tok_file f = {.meta = m, .made = LB_TOK_MADE_JSON};
    lb_str text = tok_bytes(&f, a, err);
    return text.ptr ? lb_hf_tok_parse(t, text, "made", a, err) : err->code;
}

/* Random texts through both; *n: how many ids they gave. */
static void compare(const lb_hf_tok *x, const lb_hf_tok *y, u64 *r, u64 *n) {
    lb_err err = {0};
    lb_hf_enc ex, ey;
    CHECK_OK(lb_hf_enc_init(&ex, x, &err));
    CHECK_OK(lb_hf_enc_init(&ey, y, &err));
    for (u32 i = 0; i < 60; i++) {
        char text[256];
        size_t len = 0;
        for (u32 k = 0; k < 1 + i % 7; k++) {
            len += random_token(r, false, text + len, 40);
            text[len++] = ' ';
        }
        lb_buf idx = {0}, idy = {0};
        lb_status sx = lb_hf_encode(&ex, (lb_str){text, len}, true, &idx, &err);
        lb_status sy = lb_hf_encode(&ey, (lb_str){text, len}, true, &idy, &err);
        CHECK(sx == sy);
        CHECK(lb_str_eq(lb_buf_str(&idx), lb_buf_str(&idy)));
        *n += idx.len / 4;
        lb_buf_deinit(&idx);
        lb_buf_deinit(&idy);
    }
    CHECK(ex.cut.len == ey.cut.len);
    lb_hf_enc_deinit(&ex);
    lb_hf_enc_deinit(&ey);
}

static void same_ids(const char *kind, bool lists_merges) {
    u64 n_ids = 0;
    for (u64 seed = 1; seed <= 12; seed++) {
        u64 r = seed;
        vocab v;
        lb_err err = {0};
        lb_arena a = {0};
        lb_gguf_meta m;
        lb_meta_init(&m, &a);
        make_vocab(&v, kind, &r, &a);
        CHECK_OK(put_meta(&v, kind, &r, &m, &err));
        lb_hf_tok read;
        taken t = {.arena = &a};
        CHECK_OK(read_made(&read, &m, &a, &err));
        CHECK_OK(lb_tok_put_json(&m, take, &t, &err));
        CHECK(t.tok.n_ids == read.n_ids && t.tok.n_vocab == read.n_vocab);
        CHECK(t.tok.n_added == read.n_added);
        CHECK(!lists_merges || t.tok.n_merges == read.n_merges);
        CHECK(strcmp(kind, "llama") != 0 || (t.tok.cuts && read.n_merges));
        compare(&t.tok, &read, &r, &n_ids);
        lb_hf_tok_deinit(&read);
        lb_hf_tok_deinit(&t.tok);
        lb_meta_deinit(&m);
        lb_arena_deinit(&a);
    }
    CHECK(n_ids > 1000);
}

LB_TEST(sentencepiece) {
    same_ids("llama", false);
}

LB_TEST(byte_level) {
    same_ids("gpt2", true);
}

LB_TEST(merged_sentencepiece) {
    same_ids("gemma4", true);
}

LB_TEST(unigram) {
    same_ids("t5", true);
}

LB_TEST(wordpiece) {
    same_ids("bert", true);
}

/* A text that is there twice is refused, as it is where the file is read. */
LB_TEST(twice) {
    static const lb_str tokens[] = {{"a", 1}, {"b", 1}, {"a", 1}};
    static const char *const kinds[] = {"llama", "gpt2", "t5"};
    static const float scores[] = {0, -1, -2};
    for (u32 i = 0; i < LB_LEN(kinds); i++) {
        lb_err err = {0};
        lb_arena a = {0};
        lb_gguf_meta m;
        taken t = {.arena = &a};
        lb_meta_init(&m, &a);
        CHECK_OK(lb_meta_set_str(&m, "tokenizer.ggml.model", lb_str_c(kinds[i]), &err));
        CHECK_OK(lb_meta_set_array(&m, "tokenizer.ggml.tokens", LB_GGUF_STR, 3, tokens, &err));
        CHECK_OK(lb_meta_set_array(&m, "tokenizer.ggml.scores", LB_GGUF_F32, 3, scores, &err));
        CHECK(lb_tok_put_json(&m, take, &t, &err) == LB_E_FORMAT);
        CHECK(strstr(err.msg, "twice") != NULL);
        lb_meta_deinit(&m);
        lb_arena_deinit(&a);
    }
}

LB_TEST_MAIN("fast")
