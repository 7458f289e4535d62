/* SPDX-License-Identifier: Apache-2.0 */
/* test_tok_golden.c: small tokenizers in the shapes of the families, against what the peers make of
 * them (tests/golden/text, made by make_text.py there). */
#include "base/os.h"
#include "io/json.h"
#include "test.h"
#include "text/hf_encode.h"
#include "text/tokdata.h"
#include "tokhelp.h"

static const struct family {
    const char *name, *arch, *how;
    u64 n_vocab, n_tokens;
    bool e_acute_lost; /* an added token that the converter decodes to U+FFFD, as it does */
    bool keys_only;    /* no tokenizer.json to compare ids with */
    bool anew;         /* a tokenizer.json takes the place of its files */
} families[] = {
    {"llama3", "llama", "structure", 488, 488, false, false, false},
    {"qwen2", "qwen2", "structure", 470, 470, true, false, false},
    {"smollm", "llama", "structure", 440, 440, false, false, false},
    {"spm_llama", "llama", "fixed", 604, 604, false, false, false},
    {"spm_gemma", "gemma3", "fixed", 640, 640, false, false, false},
    {"hf_llama", "llama", "fixed", 604, 602, false, false, false}, /* this way pads nothing */
    {"gemma4", "gemma4", "fixed", 650, 645, false, false, false},
    {"internlm2", "internlm2", "fixed", 600, 602, false, true, false},
    {"kimi", "deepseek2", "structure", 700, 700, false, true, true},
};

static lb_status golden_json(const char *name, const char *suffix, lb_arena *a, lb_json **out,
                             lb_err *err) {
    lb_str text, rel = lb_arena_printf(a, "text/%s%s", name, suffix);
    LB_TRY(lb_os_read_file(lb_test_golden(rel.ptr), 64 * LB_MIB, a, &text, err));
    return lb_json_parse(text, rel.ptr, a, out, err);
}

static const char *folder_of(const struct family *f, lb_arena *a) {
    lb_str rel = lb_arena_printf(a, "text/%s", f->name);
    return lb_arena_str(a, lb_str_c(lb_test_golden(rel.ptr))).ptr;
}

/* Equal as values, members in the same order; numbers as doubles. */
static bool same(const lb_json *a, const lb_json *b) {
    double x, y;
    if (a->type != b->type || a->n != b->n)
        return false;
    if (a->type == LB_JNUMBER)
        return lb_json_as_f64(a, &x) && lb_json_as_f64(b, &y) && (float)x == (float)y;
    if (a->type == LB_JBOOL)
        return a->truth == b->truth;
    if (a->type == LB_JSTRING)
        return lb_str_eq(a->text, b->text);
    const lb_json *p = a->first, *q = b->first;
    for (; p && q; p = p->next, q = q->next)
        if (!lb_str_eq(p->key, q->key) || !same(p, q))
            return false;
    return !p && !q;
}

/* The first member of two dumps that differs; for the message of a failure. */
static lb_str first_difference(const lb_json *have, const lb_json *want) {
    const lb_json *p = have->first, *q = want->first;
    for (; p && q; p = p->next, q = q->next)
        if (!lb_str_eq(p->key, q->key) || !same(p, q))
            return q->key;
    return q ? q->key : p ? p->key : LB_STR_NONE;
}

static lb_status convert(const struct family *f, const char *dir, lb_gguf_meta *meta,
                         lb_source **src, lb_tok_info *info, lb_err *err) {
    lb_tok_opts opts = {.arch = lb_str_c(f->arch), .n_vocab = f->n_vocab};
    *src = tok_source(dir, err);
    if (!*src)
        return LB_E_IO;
    lb_tok *tok = NULL;
    LB_TRY(lb_tok_open(&tok, *src, err));
    lb_status st = lb_tok_to_meta(tok, &opts, meta, info, err);
    lb_tok_close(&tok);
    return st;
}

static lb_status keep(const lb_source *src, lb_gguf_meta *meta, lb_err *err) {
    lb_tok *tok = NULL;
    LB_TRY(lb_tok_open(&tok, src, err));
    lb_status st = lb_tok_keep(tok, meta, meta, err);
    lb_tok_close(&tok);
    return st;
}

/* All of a file's bytes; ptr is NULL when out of memory. */
static lb_str bytes_of(const lb_tok_file *f, lb_arena *a, lb_err *err) {
    lb_buf b = {0};
    lb_out out = {.put = lb_out_to_buf, .ctx = &b};
    lb_status st = lb_tok_file_write(f, &out, err);
    lb_status end = lb_out_end(&out, err);
    lb_str s = st == LB_OK && end == LB_OK ? lb_arena_str(a, lb_buf_str(&b)) : LB_STR_NONE;
    lb_buf_deinit(&b);
    return s;
}

/* keys, types, order, values: the converter's */
LB_TEST(keys_equal_the_reference) {
    for (u32 i = 0; i < LB_LEN(families); i++) {
        lb_err err = {0};
        lb_arena a = {0};
        lb_gguf_meta meta;
        lb_source *src = NULL;
        lb_tok_info info = {0};
        lb_json *want, *have;
        lb_buf text = {0};
        lb_meta_init(&meta, &a);
        CHECK_OK(convert(&families[i], folder_of(&families[i], &a), &meta, &src, &info, &err));
        CHECK_OK(golden_json(families[i].name, ".kv.json", &a, &want, &err));
        tok_dump(&meta, false, &text);
        CHECK_OK(lb_json_parse(lb_buf_str(&text), "dump", &a, &have, &err));
        CHECK_STR(first_difference(have, want), "");
        CHECK_STR(lb_str_c(info.pre), families[i].how);
        CHECK_U64(info.n_tokens, families[i].n_tokens);
        lb_buf_deinit(&text);
        lb_meta_deinit(&meta);
        lb_source_close(&src);
        lb_arena_deinit(&a);
    }
}

static const lb_tok_file *find_file(const lb_tok_file *files, u64 n, lb_str name) {
    for (u64 i = 0; i < n; i++)
        if (lb_str_eq(files[i].name, name))
            return &files[i];
    return NULL;
}

LB_TEST(kept_files_come_back_byte_by_byte) {
    for (u32 i = 0; i < LB_LEN(families); i++) {
        lb_err err = {0};
        lb_arena a = {0};
        lb_gguf_meta meta;
        lb_source *src = NULL;
        lb_tok_file *files;
        u64 n, seen = 0;
        if (families[i].anew)
            continue;
        lb_meta_init(&meta, &a);
        CHECK_OK(convert(&families[i], folder_of(&families[i], &a), &meta, &src, NULL, &err));
        CHECK_OK(keep(src, &meta, &err));
        CHECK_OK(lb_tok_files_from_meta(&meta, &a, &files, &n, &err));
        for (u64 k = 0; k < src->n_sides; k++) {
            lb_str original;
            if (lb_str_eq_c(src->sides[k].name, "config.json"))
                continue;
            const lb_tok_file *back = find_file(files, n, src->sides[k].name);
            CHECK(back);
            CHECK_OK(lb_os_read_file(src->sides[k].path, LB_MIB, &a, &original, &err));
            lb_str bytes = bytes_of(back, &a, &err);
            CHECK_U64(bytes.len, original.len);
            CHECK(lb_str_eq(bytes, original));
            seen++;
        }
        CHECK(seen >= 2);
        lb_meta_deinit(&meta);
        lb_source_close(&src);
        lb_arena_deinit(&a);
    }
}

/* What was kept does not count once a tokenizer key was edited. */
LB_TEST(an_edited_key_wins_over_what_was_kept) {
    lb_err err = {0};
    lb_arena a = {0};
    lb_gguf_meta meta;
    lb_source *src = NULL;
    lb_tok_file *files;
    u64 n;
    lb_meta_init(&meta, &a);
    CHECK_OK(convert(&families[0], folder_of(&families[0], &a), &meta, &src, NULL, &err));
    CHECK_OK(keep(src, &meta, &err));
    CHECK_OK(lb_meta_set_str(&meta, "tokenizer.chat_template", LB_STR("{{ new }}"), &err));
    CHECK_OK(lb_tok_files_from_meta(&meta, &a, &files, &n, &err));
    const lb_tok_file *f = find_file(files, n, LB_STR("chat_template.jinja"));
    CHECK(f);
    CHECK_STR(f->bytes, "{{ new }}");
    lb_meta_deinit(&meta);
    lb_source_close(&src);
    lb_arena_deinit(&a);
}

static lb_status check_ids(lb_str json, const lb_json *pairs, bool no_e_acute, bool *equal,
                           lb_err *err) {
    lb_arena a = {0};
    lb_hf_tok t;
    lb_hf_enc e;
    lb_buf ids = {0};
    *equal = true;
    lb_status st = lb_hf_tok_parse(&t, json, "tokenizer.json", &a, err);
    if (st != LB_OK)
        return st;
    st = lb_hf_enc_init(&e, &t, err);
    if (st != LB_OK) {
        lb_hf_tok_deinit(&t);
        return st;
    }
    for (const lb_json *p = pairs->first; p && st == LB_OK; p = p->next) {
        size_t at;
        if (no_e_acute && (lb_str_find(p->first->text, LB_STR("\xc3\xa9"), &at) ||
                           lb_str_find(p->first->text, LB_STR("e\xcc\x81"), &at)))
            continue;
        lb_buf_reset(&ids);
        st = lb_hf_encode(&e, p->first->text, true, &ids, err);
        const u32 *v = (const u32 *)(const void *)ids.ptr;
        size_t k = 0, n = ids.len / 4;
        for (const lb_json *id = p->last->first; id; id = id->next, k++) {
            u64 want = 0;
            (void)lb_json_as_u64(id, &want);
            *equal &= k < n && v[k] == want;
        }
        *equal &= k == n;
        if (!*equal) {
            fprintf(stderr, "ids of \"%.*s\"\n", LB_FMT(p->first->text));
            break;
        }
    }
    lb_buf_deinit(&ids);
    lb_hf_enc_deinit(&e);
    lb_hf_tok_deinit(&t);
    lb_arena_deinit(&a);
    return st;
}

LB_TEST(ids_equal_the_tokenizers_library) {
    for (u32 i = 0; i < LB_LEN(families) && !families[i].keys_only; i++) {
        lb_err err = {0};
        lb_arena a = {0};
        lb_json *pairs;
        lb_str json;
        bool equal;
        const char *dir = folder_of(&families[i], &a);
        CHECK_OK(golden_json(families[i].name, ".ids.json", &a, &pairs, &err));
        CHECK(pairs->n >= 20);
        CHECK_OK(lb_os_read_file(lb_os_join(&a, dir, LB_STR("tokenizer.json")), LB_MIB, &a, &json,
                                 &err));
        CHECK_OK(check_ids(json, pairs, false, &equal, &err));
        CHECK(equal);
        lb_arena_deinit(&a);
    }
}

/* Without what lbrx keeps: the rebuilt files give the same ids, and the same keys again. */
LB_TEST(rebuilt_files_mean_the_same) {
    for (u32 i = 0; i < LB_LEN(families) && !families[i].keys_only; i++) {
        static const char *const arrays[] = {"tokenizer.ggml.tokens", "tokenizer.ggml.token_type",
                                             "tokenizer.ggml.scores", "tokenizer.ggml.merges"};
        lb_err err = {0};
        lb_arena a = {0};
        lb_gguf_meta meta, again;
        lb_source *src = NULL, *back = NULL;
        lb_tok_file *files;
        lb_json *pairs;
        u64 n;
        bool equal;
        lb_meta_init(&meta, &a);
        lb_meta_init(&again, &a);
        CHECK_OK(convert(&families[i], folder_of(&families[i], &a), &meta, &src, NULL, &err));
        CHECK_OK(lb_tok_files_from_meta(&meta, &a, &files, &n, &err));
        const lb_tok_file *json = find_file(files, n, LB_STR("tokenizer.json"));
        CHECK(json);
        CHECK_OK(golden_json(families[i].name, ".ids.json", &a, &pairs, &err));
        CHECK_OK(
            check_ids(bytes_of(json, &a, &err), pairs, families[i].e_acute_lost, &equal, &err));
        CHECK(equal);
        lb_str dir = lb_arena_printf(&a, "%s/%s", lb_test_dir(), families[i].name);
        CHECK_OK(lb_os_mkdir(dir.ptr, false, &err));
        for (u64 k = 0; k < n; k++) {
            int fd;
            if (!lb_str_is_file_name(files[k].name)) /* additional_chat_templates/ */
                continue;
            const char *path = lb_os_join(&a, dir.ptr, files[k].name);
            CHECK_OK(lb_os_open_write(path, true, &fd, &err));
            lb_str bytes = bytes_of(&files[k], &a, &err);
            CHECK_OK(lb_os_pwrite(fd, path, bytes.ptr, bytes.len, 0, &err));
            lb_os_close(&fd);
        }
        CHECK_OK(convert(&families[i], dir.ptr, &again, &back, NULL, &err));
        for (u32 k = 0; k < LB_LEN(arrays); k++) {
            const lb_gguf_kv *x = lb_meta_find(&meta, arrays[k]);
            const lb_gguf_kv *y = lb_meta_find(&again, arrays[k]);
            CHECK(!x == !y);
            CHECK(!x || (x->n == y->n && x->elem == y->elem));
            for (u64 j = 0; x && j < x->n; j++) {
                lb_str s, t;
                double u, v;
                if (x->elem == LB_GGUF_STR)
                    CHECK(lb_kv_elem_str(x, j, &s) && lb_kv_elem_str(y, j, &t) && lb_str_eq(s, t));
                else
                    CHECK(lb_kv_elem_f64(x, j, &u) && lb_kv_elem_f64(y, j, &v) && u == v);
            }
        }
        lb_meta_deinit(&meta);
        lb_meta_deinit(&again);
        lb_source_close(&src);
        lb_source_close(&back);
        lb_arena_deinit(&a);
    }
}

/* Families whose tokenizer.model may be missing (as mlx-lm saves them): scores by the ranks of the
 * merges, so that llama.cpp cuts as they do, and files with the same ids come back without what
 * lbrx keeps. */
LB_TEST(ranks_of_merges_become_scores) {
    static const char *const archs[] = {"phi3", "phimoe", "ernie4_5", "internlm2"};
    for (u32 i = 0; i < LB_LEN(archs); i++) {
        struct family f = {.name = "hf_llama", .arch = archs[i], .n_vocab = 604};
        lb_err err = {0};
        lb_arena a = {0};
        lb_gguf_meta meta;
        lb_source *src = NULL;
        lb_tok_file *files;
        lb_json *pairs;
        lb_str left;
        u64 n, ranked = 0;
        double score;
        bool equal;
        lb_meta_init(&meta, &a);
        CHECK_OK(convert(&f, folder_of(&f, &a), &meta, &src, NULL, &err));
        CHECK(lb_kv_as_str(lb_meta_find(&meta, "tokenizer.ggml.model"), &left));
        CHECK_STR(left, "llama");
        const lb_gguf_kv *scores = lb_meta_find(&meta, "tokenizer.ggml.scores");
        for (u64 k = 0; k < scores->n; k++)
            ranked += lb_kv_elem_f64(scores, k, &score) && score < 0 && score > -1000;
        CHECK(ranked > 100);
        CHECK_OK(lb_tok_files_from_meta(&meta, &a, &files, &n, &err));
        CHECK(find_file(files, n, LB_STR("tokenizer.model")));
        const lb_tok_file *json = find_file(files, n, LB_STR("tokenizer.json"));
        CHECK(json);
        CHECK_OK(golden_json(f.name, ".ids.json", &a, &pairs, &err));
        CHECK_OK(check_ids(bytes_of(json, &a, &err), pairs, false, &equal, &err));
        CHECK(equal);
        lb_meta_deinit(&meta);
        lb_source_close(&src);
        lb_arena_deinit(&a);
    }
}

/* A tokenizer.json that is cut anywhere is an error, never a crash and never taken. */
LB_TEST(every_prefix_of_a_file_is_refused) {
    lb_err err = {0};
    lb_arena a = {0};
    lb_str text;
    const char *dir = folder_of(&families[2], &a);
    CHECK_OK(
        lb_os_read_file(lb_os_join(&a, dir, LB_STR("tokenizer.json")), LB_MIB, &a, &text, &err));
    for (size_t n = 0; n < text.len; n++) {
        lb_arena own = {0};
        lb_hf_tok t;
        CHECK(lb_hf_tok_parse(&t, lb_str_sub(text, 0, n), "cut", &own, &err) == LB_E_FORMAT);
        lb_arena_deinit(&own);
    }
    lb_arena_deinit(&a);
}

LB_TEST(allocation_failures_are_reported) {
    lb_err err = {0};
    lb_arena a = {0};
    const char *dir = folder_of(&families[1], &a);
    bool done = false;
    for (u64 i = 1; i < 400 && !done; i++) {
        lb_arena own = {0};
        lb_gguf_meta meta;
        lb_source *src = NULL;
        lb_tok_file *files;
        u64 n;
        lb_meta_init(&meta, &own);
        lb_mem_fail_at(i);
        lb_status st = convert(&families[1], dir, &meta, &src, NULL, &err);
        if (st == LB_OK)
            st = keep(src, &meta, &err);
        if (st == LB_OK)
            st = lb_tok_files_from_meta(&meta, &own, &files, &n, &err);
        lb_mem_fail_at(0);
        done = st == LB_OK && i > 50;
        CHECK(st == LB_OK || st == LB_E_NOMEM || (!src && st == LB_E_IO));
        lb_meta_deinit(&meta);
        lb_source_close(&src);
        lb_arena_deinit(&own);
    }
    lb_arena_deinit(&a);
}

LB_TEST_MAIN("fast")
