/* SPDX-License-Identifier: Apache-2.0 */
/* tok_tiktoken.c: a file of tiktoken (a line for each token: its bytes in base64, its rank) as the
 * tokenizer.json of the same tokenizer.
 *
 * tiktoken merges by rank and keeps no merges: the two parts of a token are what is left of it when
 * only tokens of a lower rank are merged, as the reference converter finds them (QwenModel.bpe in
 * conversion/qwen.py of llama-cpp-python 0.3.36). How texts are cut and which special tokens follow
 * is said by no file but by the tokenizer's own code: only classes that are known here are read.
 * Kimi's: tokenization_kimi.py of Kimi-K2 (256 reserved tokens behind the ranks). */
#include "text/bytelevel.h"
#include "text/pre.h"
#include "text/tok_folder.h"
#include <stdio.h>

#define TOKEN_MAX 512 /* bytes; the longest of released files has 128 */

static const struct tiktoken_class {
    const char *class_name, *file, *pre;
    u32 n_reserved;
} classes[] = {{"TikTokenTokenizer", "tiktoken.model", "kimi-k2", 256}};

static const struct tiktoken_class *class_of(const lb_tok_folder *f) {
    for (u32 i = 0; i < LB_LEN(classes); i++)
        if (lb_str_eq_c(lb_tok_class_name(f), classes[i].class_name) &&
            lb_tok_folder_has(f, classes[i].file))
            return &classes[i];
    return NULL;
}

bool lb_tok_has_tiktoken(const lb_tok_folder *f) {
    return class_of(f) != NULL;
}

typedef struct ranks {
    lb_str *token; /* [n], by rank */
    u64 n;
    lb_map of; /* bytes -> rank */
    const char *what;
    lb_err *err;
} ranks;

/* ---- reading ---- */

static int digit_of(char c) {
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
}

/* Standard base64 with its padding; false: it is none. */
static bool decode_base64(lb_str s, u8 *out, size_t *n) {
    size_t pad = 0;
    *n = 0;
    if (s.len == 0 || s.len % 4 != 0)
        return false;
    while (pad < 2 && s.ptr[s.len - 1 - pad] == '=')
        pad++;
    for (size_t i = 0; i < s.len; i += 4) {
        u32 v = 0;
        for (size_t k = 0; k < 4; k++) {
            int d = i + k >= s.len - pad ? 0 : digit_of(s.ptr[i + k]);
            if (d < 0)
                return false;
            v = v << 6 | (u32)d;
        }
        for (size_t k = 0; k < 3 && !(i + 4 == s.len && k >= 3 - pad); k++)
            out[(*n)++] = (u8)(v >> (16 - 8 * k));
    }
    return true;
}

static lb_status bad_line(const ranks *r, u64 line, const char *what) {
    return lb_fail(r->err, LB_E_FORMAT, "%s: line %llu: %s", r->what, (unsigned long long)line,
                   what);
}

static lb_status read_line(ranks *r, lb_str line, u64 number, lb_arena *arena) {
    u8 bytes[TOKEN_MAX + 3];
    size_t at, n;
    u64 rank;
    bool existed;
    if (!lb_str_find(line, LB_STR(" "), &at) ||
        !lb_str_to_u64(lb_str_sub(line, at + 1, line.len), &rank))
        return bad_line(r, number, "expected a token in base64 and its rank");
    if (at > (TOKEN_MAX + 2) / 3 * 4)
        return bad_line(r, number, "a token of more than 512 bytes");
    if (!decode_base64(lb_str_sub(line, 0, at), bytes, &n))
        return bad_line(r, number, "the token is not in base64");
    if (rank >= r->n || r->token[rank].ptr)
        return bad_line(r, number, "its rank is another token's, or there are gaps before it");
    r->token[rank] = lb_arena_str(arena, (lb_str){(const char *)bytes, n});
    if (!r->token[rank].ptr)
        return lb_fail(r->err, LB_E_NOMEM, "%s: out of memory", r->what);
    LB_TRY(lb_map_put(&r->of, r->token[rank], rank, &existed, r->err));
    return existed ? bad_line(r, number, "the same token as an earlier line") : LB_OK;
}

static lb_str next_line(lb_str *text) {
    size_t end = text->len;
    (void)lb_str_find(*text, LB_STR("\n"), &end);
    lb_str line = lb_str_sub(*text, 0, end);
    *text = lb_str_sub(*text, LB_MIN(end + 1, text->len), text->len);
    if (lb_str_ends(line, LB_STR("\r")))
        line.len--;
    return line;
}

static lb_status read_ranks(ranks *r, lb_str text, lb_arena *arena) {
    u64 number = 0;
    for (lb_str rest = text; rest.len;)
        r->n += next_line(&rest).len != 0;
    r->token = lb_arena_new(arena, lb_str, r->n + 1);
    if (!r->token)
        return lb_fail(r->err, LB_E_NOMEM, "%s: out of memory", r->what);
    memset(r->token, 0, (size_t)(r->n + 1) * sizeof *r->token);
    if (r->n == 0)
        return bad_line(r, 1, "holds no tokens");
    while (text.len) {
        lb_str line = next_line(&text);
        number++;
        if (line.len)
            LB_TRY(read_line(r, line, number, arena));
    }
    return LB_OK;
}

/* ---- merges ---- */

static u64 rank_of(const ranks *r, lb_str token, u32 from, u32 to) {
    u64 rank = UINT64_MAX;
    (void)lb_map_find(&r->of, lb_str_sub(token, from, to), &rank);
    return rank;
}

/* Where a token of `rank` falls into two; false: into one, or into more. */
static bool split_token(const ranks *r, u64 rank, u32 *at) {
    lb_str token = r->token[rank];
    u32 start[TOKEN_MAX + 3]; /* of each part, and the end */
    u64 pair[TOKEN_MAX + 3];  /* rank of a part and the next one together */
    u32 n = (u32)token.len;
    for (u32 i = 0; i <= n; i++)
        start[i] = i;
    for (u32 i = 0; i + 1 < n; i++)
        pair[i] = rank_of(r, token, i, i + 2);
    while (n > 1) {
        u32 best = 0;
        for (u32 i = 1; i + 1 < n; i++)
            if (pair[i] < pair[best])
                best = i;
        if (pair[best] >= rank)
            break;
        memmove(start + best + 1, start + best + 2, (n - best - 1) * sizeof *start);
        memmove(pair + best, pair + best + 1, (n - best - 1) * sizeof *pair);
        n--;
        if (best > 0)
            pair[best - 1] = rank_of(r, token, start[best - 1], start[best + 1]);
        if (best + 1 < n)
            pair[best] = rank_of(r, token, start[best], start[best + 2]);
    }
    *at = start[1];
    return n == 2;
}

/* ---- the text ---- */

static void put_bytes(lb_buf *out, lb_buf *scratch, lb_str bytes) {
    lb_buf_reset(scratch);
    lb_bytelevel_encode(scratch, bytes);
    lb_json_write_str(out, lb_buf_str(scratch), false);
    out->oom = out->oom || scratch->oom;
}

static void put_merges(const ranks *r, lb_buf *out) {
    lb_buf text = {0};
    bool any = false;
    u32 at;
    for (u64 i = 0; i < r->n; i++) {
        if (r->token[i].len < 2 || !split_token(r, i, &at))
            continue;
        lb_buf_reset(&text);
        lb_bytelevel_encode(&text, lb_str_sub(r->token[i], 0, at));
        lb_buf_put_u8(&text, ' ');
        lb_bytelevel_encode(&text, lb_str_sub(r->token[i], at, r->token[i].len));
        lb_buf_put_c(out, any ? "," : "");
        lb_json_write_str(out, lb_buf_str(&text), false);
        any = true;
    }
    out->oom = out->oom || text.oom;
    lb_buf_deinit(&text);
}

/* Those that tokenizer_config.json names, and reserved ones in between. */
static void put_reserved(const lb_tok_folder *f, u64 first, u32 n, lb_buf *out) {
    const lb_json *list = lb_json_get(f->tok_config, "added_tokens_decoder");
    for (u64 id = first; id < first + n; id++) {
        char key[24], name[48];
        snprintf(key, sizeof key, "%llu", (unsigned long long)id);
        snprintf(name, sizeof name, "<|reserved_token_%s|>", key);
        lb_str text = lb_str_c(name);
        (void)lb_json_as_str(lb_json_get(lb_json_get(list, key), "content"), &text);
        lb_buf_printf(out, "%s{\"id\":%s,\"content\":", id > first ? "," : "", key);
        lb_json_write_str(out, text, false);
        lb_buf_put_c(out, ",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
                          "\"normalized\":false,\"special\":true}");
    }
}

static void put_all(const lb_tok_folder *f, const struct tiktoken_class *c, const ranks *r,
                    lb_arena *arena, lb_buf *out) {
    const lb_pre_form *form = lb_pre_form_by_name(lb_str_c(c->pre));
    lb_buf scratch = {0};
    lb_buf_put_c(out, "{\"added_tokens\":[");
    put_reserved(f, r->n, c->n_reserved, out);
    lb_buf_put_c(out, "],\"normalizer\":");
    lb_json_write(out, lb_pre_form_normalizer(form, arena), (lb_json_style){.compact = true});
    lb_buf_put_c(out, ",\"pre_tokenizer\":");
    lb_json_write(out, lb_pre_form_pre_tokenizer(form, arena), (lb_json_style){.compact = true});
    lb_buf_put_c(out, ",\"post_processor\":null,\"decoder\":{\"type\":\"ByteLevel\"},"
                      "\"model\":{\"type\":\"BPE\",\"ignore_merges\":false,\"merges\":[");
    put_merges(r, out);
    lb_buf_put_c(out, "],\"vocab\":{");
    for (u64 i = 0; i < r->n; i++) {
        lb_buf_put_c(out, i ? "," : "");
        put_bytes(out, &scratch, r->token[i]);
        lb_buf_put_c(out, ":");
        lb_buf_put_dec(out, i);
    }
    lb_buf_put_c(out, "}}}");
    lb_buf_deinit(&scratch);
}

lb_status lb_tok_tiktoken_text(const lb_tok_folder *f, lb_arena *arena, lb_str *out, lb_err *err) {
    const struct tiktoken_class *c = class_of(f);
    ranks r = {.what = c->file, .err = err};
    lb_arena scratch = {0};
    lb_buf b = {0};
    lb_str text;
    bool found;
    lb_status st = lb_tok_folder_read_to(f, c->file, &scratch, &text, &found, err);
    if (st == LB_OK)
        st = read_ranks(&r, text, &scratch);
    if (st == LB_OK) {
        put_all(f, c, &r, &scratch, &b);
        st = lb_buf_status(&b, err);
    }
    lb_map_deinit(&r.of);
    lb_arena_deinit(&scratch);
    *out = st == LB_OK ? lb_arena_str(arena, lb_buf_str(&b)) : LB_STR_NONE;
    lb_buf_deinit(&b);
    return st == LB_OK && !out->ptr ? lb_fail(err, LB_E_NOMEM, "tokenizer.json: out of memory")
                                    : st;
}
