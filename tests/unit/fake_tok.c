/* SPDX-License-Identifier: Apache-2.0 */
/* fake_tok.c: tokenizers of the sizes and forms that released models have, made up.
 *
 * Words are joined from shorter ones that are there already, as a trained BPE joins them, so that
 * lengths, the number of merges and the shape of the files come near the real ones: 262,144 tokens
 * of the first form give a tokenizer.json of about 33 MB with about 500,000 merges. */
#include "base/os.h"
#include "fake_model.h"
#include "io/json.h"
#include <stdio.h>

#define N_LETTERS 12
#define SPACE "\xe2\x96\x81" /* U+2581 */

typedef struct maker {
    bool bytes; /* byte-level BPE; else SentencePiece-like with byte fallback */
    u64 n_vocab, n_special, n_base, first_letter, first_word;
    lb_str *token;
    u64 n;
    lb_map id_of;
    lb_arena perm;
    u64 random;
} maker;

static u64 draw(maker *m, u64 below) {
    m->random = m->random * 6364136223846793005u + 1442695040888963407u;
    return (m->random >> 33) % below;
}

/* False: the text is there already. */
static bool add(maker *m, lb_str text) {
    bool existed = true;
    lb_str copy = lb_arena_str(&m->perm, text);
    if (!copy.ptr || lb_map_put(&m->id_of, copy, m->n, &existed, NULL) != LB_OK || existed)
        return false;
    m->token[m->n++] = copy;
    return true;
}

static void add_code_point(maker *m, u32 c) {
    char t[4] = {(char)(c < 0x80 ? c : c < 0x800 ? 0xc0 | c >> 6 : 0xe0 | c >> 12)};
    size_t n = 1;
    if (c >= 0x800)
        t[n++] = (char)(0x80 | (c >> 6 & 0x3f));
    if (c >= 0x80)
        t[n++] = (char)(0x80 | (c & 0x3f));
    (void)add(m, (lb_str){t, n});
}

/* Special tokens, bytes and characters, in the order of the ids. */
static void add_base(maker *m) {
    static const char *const named[] = {"<pad>", "<eos>", "<bos>", "<unk>"};
    char text[32];
    if (!m->bytes) {
        for (u32 i = 0; i < LB_LEN(named); i++)
            (void)add(m, lb_str_c(named[i]));
        while (m->n < m->n_special) {
            (void)snprintf(text, sizeof text, "<unused%u>", (u32)m->n);
            (void)add(m, lb_str_c(text));
        }
        for (u32 i = 0; i < 256; i++) {
            (void)snprintf(text, sizeof text, "<0x%02X>", i);
            (void)add(m, lb_str_c(text));
        }
        (void)add(m, LB_STR(SPACE));
        m->first_letter = m->n + ('a' - '!');
        for (u32 c = '!'; c < 127; c++)
            add_code_point(m, c);
    } else {
        m->first_letter = 'a' - '!';
        for (u32 c = '!'; c < 324; c++) /* the printable alphabet of bytes */
            if ((c < 127 || c > 160) && c != 173)
                add_code_point(m, c);
    }
    m->n_base = m->n;
    for (u32 c = 0x4e00; !m->bytes && c < 0x4e00 + LB_MIN(m->n_vocab / 16, (u64)8000); c++)
        add_code_point(m, c);
}

/* A letter or a word that is there, the earlier ones more often. Few letters: then most words have
 * more than one cut into two others, as in the real files. */
static u64 draw_part(maker *m) {
    u64 i = draw(m, 1 + draw(m, N_LETTERS + m->n - m->first_word));
    return i < N_LETTERS ? m->first_letter + i : m->first_word + i - N_LETTERS;
}

static void add_words(maker *m, u64 until) {
    m->first_word = m->n;
    while (m->n < until) {
        char text[32];
        lb_str l = m->token[draw_part(m)], r = m->token[draw_part(m)];
        if (l.len + r.len > 7)
            continue;
        memcpy(text, l.ptr, l.len);
        memcpy(text + l.len, r.ptr, r.len);
        (void)add(m, (lb_str){text, l.len + r.len});
    }
}

/* ---- tokenizer.json ---- */

static void put_added(lb_buf *b, u64 id, lb_str content, bool first) {
    lb_buf_printf(b, "%s\n    {\n      \"id\": %llu,\n      \"content\": ", first ? "" : ",",
                  (unsigned long long)id);
    lb_json_write_str(b, content, false);
    lb_buf_put_c(
        b, ",\n      \"single_word\": false,\n      \"lstrip\": false,\n      \"rstrip\": false,"
           "\n      \"normalized\": false,\n      \"special\": true\n    }");
}

static void put_merge(const maker *m, lb_buf *b, lb_str l, lb_str r, bool *first) {
    lb_buf_put_c(b, *first ? "" : ",");
    *first = false;
    if (m->bytes) {
        lb_buf_put_c(b, "\n      \"");
        lb_str both[2] = {l, r};
        for (u32 i = 0; i < 2; i++)
            for (size_t k = 0; k < both[i].len; k++) {
                char c = both[i].ptr[k];
                if (c == '"' || c == '\\')
                    lb_buf_put_u8(b, '\\');
                lb_buf_put_u8(b, (u8)c);
                if (i == 0 && k + 1 == l.len)
                    lb_buf_put_u8(b, ' ');
            }
        lb_buf_put_u8(b, '"');
        return;
    }
    lb_buf_put_c(b, "\n      [\n        ");
    lb_json_write_str(b, l, false);
    lb_buf_put_c(b, ",\n        ");
    lb_json_write_str(b, r, false);
    lb_buf_put_c(b, "\n      ]");
}

/* Every cut of a token, sorted by the ids of its parts, as SentencePiece's files have them. */
static void put_cuts(const maker *m, lb_buf *b, u64 id, bool *first) {
    lb_str t = m->token[id];
    u64 cut[32][2], n = 0;
    for (size_t i = 1; i < t.len; i++) {
        u64 l, r, k = n;
        if (((u8)t.ptr[i] & 0xc0) == 0x80 || !lb_map_find(&m->id_of, lb_str_sub(t, 0, i), &l) ||
            !lb_map_find(&m->id_of, lb_str_sub(t, i, t.len), &r))
            continue;
        for (; k && (cut[k - 1][0] > l || (cut[k - 1][0] == l && cut[k - 1][1] > r)); k--)
            memcpy(cut[k], cut[k - 1], sizeof cut[k]);
        cut[k][0] = l;
        cut[k][1] = r;
        n++;
    }
    for (u64 k = 0; k < n; k++)
        put_merge(m, b, m->token[cut[k][0]], m->token[cut[k][1]], first);
}

static void put_merges(const maker *m, lb_buf *b) {
    bool first = true;
    u64 n_words = m->bytes ? m->n_vocab - m->n_special : m->n_vocab;
    for (u64 i = m->n_base; i < n_words; i++)
        put_cuts(m, b, i, &first);
}

static void put_tokenizer(const maker *m, lb_buf *b) {
    static const char byte_level[] =
        "{\n    \"type\": \"ByteLevel\",\n    \"add_prefix_space\": false,\n    \"trim_offsets\": "
        "true,\n    \"use_regex\": true\n  }";
    static const char pieces[] = "{\n    \"type\": \"Sequence\",\n    \"decoders\": [\n      {\n   "
                                 "     \"type\": \"Replace\",\n        "
                                 "\"pattern\": {\n          \"String\": \"" SPACE
                                 "\"\n        },\n        \"content\": \" \"\n      },\n"
                                 "      {\n        \"type\": \"ByteFallback\"\n      },\n      {\n "
                                 "       \"type\": \"Fuse\"\n      }\n"
                                 "    ]\n  }";
    lb_buf_put_c(b, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n"
                    "  \"added_tokens\": [");
    u64 first_added = m->bytes ? m->n_vocab - m->n_special : 0;
    for (u64 i = 0; i < m->n_special; i++)
        put_added(b, first_added + i, m->token[first_added + i], i == 0);
    lb_buf_put_c(b, "\n  ],\n  \"normalizer\": ");
    lb_buf_put_c(b, m->bytes
                        ? "null"
                        : "{\n    \"type\": \"Replace\",\n    \"pattern\": {\n      \"String\": "
                          "\" \"\n    },\n    \"content\": \"" SPACE "\"\n  }");
    lb_buf_printf(b, ",\n  \"pre_tokenizer\": %s,\n  \"post_processor\": null,\n  \"decoder\": %s,",
                  m->bytes ? byte_level : "null", m->bytes ? byte_level : pieces);
    lb_buf_printf(b,
                  "\n  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n"
                  "    \"unk_token\": %s,\n    \"continuing_subword_prefix\": null,\n"
                  "    \"end_of_word_suffix\": null,\n    \"fuse_unk\": %s,\n"
                  "    \"byte_fallback\": %s,\n    \"ignore_merges\": false,\n    \"vocab\": {",
                  m->bytes ? "null" : "\"<unk>\"", m->bytes ? "false" : "true",
                  m->bytes ? "false" : "true");
    u64 n_in_vocab = m->bytes ? first_added : m->n_vocab;
    for (u64 i = 0; i < n_in_vocab; i++) {
        lb_buf_put_c(b, i ? ",\n      " : "\n      ");
        lb_json_write_str(b, m->token[i], false);
        lb_buf_printf(b, ": %llu", (unsigned long long)i);
    }
    lb_buf_put_c(b, "\n    },\n    \"merges\": [");
    put_merges(m, b);
    lb_buf_put_c(b, "\n    ]\n  }\n}");
}

/* ---- tokenizer.model ---- */

static void put_model(const maker *m, lb_buf *b) {
    for (u64 i = 0; i < m->n_vocab; i++) {
        u32 type = i == 3 ? 2 : i < 4 ? 3 : i < m->n_special ? 4 : i < m->n_special + 256 ? 6 : 1;
        float score = type == 1 ? -(float)(i - m->n_special - 256) : 0;
        lb_str t = m->token[i];
        lb_buf_put_u8(b, 0x0a); /* field 1: a piece: 1 text, 2 score, 3 type */
        lb_buf_put_u8(b, (u8)(2 + t.len + 5 + (type == 1 ? 0 : 2)));
        lb_buf_put_u8(b, 0x0a);
        lb_buf_put_u8(b, (u8)t.len);
        lb_buf_put_str(b, t);
        lb_buf_put_u8(b, 0x15);
        lb_buf_put_u32(b, lb_f32_bits(score));
        if (type != 1) {
            lb_buf_put_u8(b, 0x18);
            lb_buf_put_u8(b, (u8)type);
        }
    }
    static const u8 trainer[] = {0x12, 11, 0x18, 2, 0x98, 2, 1, 0xc0, 2, 3, 0xc8, 2, 2};
    lb_buf_put(b, trainer, sizeof trainer); /* BPE, byte_fallback; unk 3, bos 2 */
}

/* ---- ---- */

static lb_status write_buf(const char *dir, const char *name, lb_buf *b, lb_arena *perm,
                           lb_err *err) {
    int fd = -1;
    lb_status st = lb_buf_status(b, err);
    const char *path = lb_os_join(perm, dir, lb_str_c(name));
    if (st == LB_OK && !path)
        st = lb_fail(err, LB_E_NOMEM, "out of memory for a made-up tokenizer");
    if (st == LB_OK)
        st = lb_os_open_write(path, false, &fd, err);
    if (st == LB_OK)
        st = lb_os_truncate(fd, path, 0, err);
    if (st == LB_OK)
        st = lb_os_pwrite(fd, path, b->ptr, b->len, 0, err);
    lb_os_close(&fd);
    lb_buf_deinit(b);
    return st;
}

lb_status fm_write_tokenizer(const char *dir, const fm_tok *tok, lb_err *err) {
    maker m = {.bytes = tok->bytes, .n_vocab = tok->n_vocab, .random = 1};
    lb_buf b = {0};
    char name[32];
    m.n_special = LB_MIN(m.bytes ? (u64)256 : (u64)6414, m.n_vocab / 8);
    m.token = lb_arena_new(&m.perm, lb_str, m.n_vocab + 1);
    lb_status st = m.token && m.n_vocab >= 4096
                       ? LB_OK
                       : lb_fail(err, LB_E_NOMEM, "no made-up tokenizer of that size");
    if (st == LB_OK) {
        add_base(&m);
        add_words(&m, m.bytes ? m.n_vocab - m.n_special : m.n_vocab);
        for (u32 i = 0; m.n < m.n_vocab; i++) {
            (void)snprintf(name, sizeof name, "<|reserved_%u|>", i);
            (void)add(&m, lb_str_c(name));
        }
        put_tokenizer(&m, &b);
        st = write_buf(dir, "tokenizer.json", &b, &m.perm, err);
    }
    if (st == LB_OK && tok->model) {
        put_model(&m, &b);
        st = write_buf(dir, "tokenizer.model", &b, &m.perm, err);
    }
    if (st == LB_OK) {
        lb_buf_printf(&b,
                      "{\n  \"bos_token\": \"%s\",\n  \"eos_token\": \"%s\",\n  "
                      "\"tokenizer_class\": \"PreTrainedTokenizerFast\"\n}\n",
                      m.bytes ? "<|reserved_0|>" : "<bos>", m.bytes ? "<|reserved_1|>" : "<eos>");
        st = write_buf(dir, "tokenizer_config.json", &b, &m.perm, err);
    }
    lb_map_deinit(&m.id_of);
    lb_arena_deinit(&m.perm);
    return st;
}
