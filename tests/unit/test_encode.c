/* SPDX-License-Identifier: Apache-2.0 */
/* test_encode.c: the tokenizer of a model, whatever it is stored in: ids of the peers
 * (tests/golden/ text) from a tokenizer.json, a tokenizer.model alone and the keys of a GGUF. */
#include "base/os.h"
#include "io/json.h"
#include "test.h"
#include "text/encode.h"
#include "tokhelp.h"

typedef struct family {
    const char *name, *arch, *bos;
    u64 n_vocab;
    bool e_acute_lost; /* in GGUF: an added token that becomes U+FFFD, as the reference has it */
    bool spm;          /* has a tokenizer.model */
} family;
static const family families[] = {
    {"llama3", "llama", "<|begin_of_text|>", 488, false, false},
    {"qwen2", "qwen2", "", 470, true, false},
    {"smollm", "llama", "<|endoftext|>", 440, false, false},
    {"spm_llama", "llama", "<s>", 604, false, true},
    {"spm_gemma", "gemma3", "<s>", 640, false, true},
    {"hf_llama", "llama", "<s>", 604, false, false},
    {"gemma4", "gemma4", "<s>", 650, false, false},
};

static void check_texts(const family *f, const lb_encoder *e, bool lost, const char *what) {
    lb_arena a = {0};
    lb_err err = {0};
    lb_str text, rel = lb_arena_printf(&a, "text/%s.ids.json", f->name);
    lb_json *pairs;
    lb_buf ids = {0};
    u64 n_bad = 0;
    CHECK_OK(lb_os_read_file(lb_test_golden(rel.ptr), 64 * LB_MIB, &a, &text, &err));
    CHECK_OK(lb_json_parse(text, rel.ptr, &a, &pairs, &err));
    CHECK(pairs->n >= 20);
    for (const lb_json *p = pairs->first; p; p = p->next) {
        size_t at, k = 0;
        if (lost && (lb_str_find(p->first->text, LB_STR("\xc3\xa9"), &at) ||
                     lb_str_find(p->first->text, LB_STR("e\xcc\x81"), &at)))
            continue;
        lb_buf_reset(&ids);
        CHECK_OK(lb_encoder_encode(e, p->first->text, true, &ids, &err));
        const u32 *v = (const u32 *)(const void *)ids.ptr;
        bool equal = ids.len / sizeof *v == p->last->n;
        for (const lb_json *id = p->last->first; equal && id; id = id->next, k++) {
            u64 want = 0;
            equal = lb_json_as_u64(id, &want) && v[k] == want;
        }
        n_bad += !equal;
    }
    if (n_bad)
        lb_test_fail(__FILE__, __LINE__, "%s %s: %llu texts", f->name, what,
                     (unsigned long long)n_bad);
    lb_buf_deinit(&ids);
    lb_arena_deinit(&a);
}

static void check_source(const family *f, const lb_source *s, bool lost, const char *what) {
    lb_encoder *e = NULL;
    lb_err err = {0};
    CHECK_OK(lb_encoder_open(&e, s, &err));
    check_texts(f, e, lost, what);
    /* a GGUF always names one */
    if (*f->bos)
        CHECK_STR(lb_encoder_special(e, "bos_token"), f->bos);
    CHECK_U64(lb_encoder_special(e, "no_token").len, 0);
    lb_encoder_close(&e);
    CHECK(!e);
}

static lb_source *open_family(const family *f, lb_arena *a) {
    lb_err err = {0};
    lb_str rel = lb_arena_printf(a, "text/%s", f->name);
    return tok_source(lb_test_golden(rel.ptr), &err);
}

LB_TEST(of_a_folder) {
    for (u32 i = 0; i < LB_LEN(families); i++) {
        lb_arena a = {0};
        lb_source *s = open_family(&families[i], &a);
        CHECK(s);
        check_source(&families[i], s, false, "folder");
        lb_source_close(&s);
        lb_arena_deinit(&a);
    }
}

LB_TEST(of_a_sentencepiece_model_alone) {
    for (u32 i = 0; i < LB_LEN(families); i++) {
        lb_arena a = {0};
        lb_source *s = families[i].spm ? open_family(&families[i], &a) : NULL;
        if (!s)
            continue;
        u64 n = 0;
        for (u64 k = 0; k < s->n_sides; k++)
            if (!lb_str_eq_c(s->sides[k].name, "tokenizer.json"))
                s->sides[n++] = s->sides[k];
        CHECK_U64(n + 1, s->n_sides);
        s->n_sides = n;
        check_source(&families[i], s, false, "tokenizer.model");
        lb_source_close(&s);
        lb_arena_deinit(&a);
    }
}

LB_TEST(of_a_gguf) {
    for (u32 i = 0; i < LB_LEN(families); i++) {
        const family *f = &families[i];
        lb_arena a = {0};
        lb_err err = {0};
        lb_gguf_meta meta;
        lb_source *s = open_family(f, &a), *gguf = lb_source_new(LB_FORMAT_GGUF, "x.gguf");
        const lb_tok_opts o = {.arch = lb_str_c(f->arch), .n_vocab = f->n_vocab};
        lb_meta_init(&meta, &a);
        CHECK(s && gguf);
        CHECK_OK(tok_keys(s, &o, &meta, &err));
        gguf->gguf = &meta;
        check_source(f, gguf, f->e_acute_lost, "gguf");
        lb_source_close(&gguf);
        lb_source_close(&s);
        lb_meta_deinit(&meta);
        lb_arena_deinit(&a);
    }
}

static const char *refused(const char *json) {
    static lb_err err;
    lb_encoder *e = NULL;
    lb_side_file side = {
        .name = LB_STR("tokenizer.json"), .bytes = lb_str_c(json), .size_bytes = strlen(json)};
    lb_source *s = lb_source_new(LB_FORMAT_HF, "m");
    err = (lb_err){0};
    s->sides = &side;
    s->n_sides = *json != 0;
    if (lb_encoder_open(&e, s, &err) == LB_OK)
        lb_encoder_close(&e);
    s->n_sides = 0;
    lb_source_close(&s);
    return err.msg;
}

LB_TEST(what_cannot_be_encoded_with) {
    CHECK_STR(lb_str_c(refused("")), "m: tokenizer: m: no tokenizer.json");
    CHECK_STR(lb_str_c(refused("{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": "
                               "[]}, \"pre_tokenizer\": {\"type\": \"UnicodeScripts\"}}")),
              "m: tokenizer: pre_tokenizer \"UnicodeScripts\" is not known here");
    CHECK_STR(lb_str_c(refused("{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": "
                               "[]}, \"decoder\": {\"type\": \"Unheard\"}}")),
              "m: tokenizer: decoder \"Unheard\" is not known here");
    CHECK_STR(lb_str_c(refused("{\"model\": {\"type\": \"Unigram\", \"unk_id\": 7, \"vocab\": "
                               "[[\"a\", 0]]}}")),
              "m: tokenizer: model.unk_id: no token has this number");
}

/* tokenizers 0.23: "<a> b" is both tokens, although the first takes the blank with which the second
 * begins. */
LB_TEST(a_blank_for_two_tokens) {
    static const char json[] =
        "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"x\": 0}, \"merges\": []}, "
        "\"added_tokens\": [{\"id\": 1, \"content\": \"<a>\", \"special\": true, "
        "\"normalized\": false, \"lstrip\": false, \"rstrip\": true, \"single_word\": false}, "
        "{\"id\": 2, \"content\": \" b\", \"special\": true, \"normalized\": false, "
        "\"lstrip\": true, \"rstrip\": false, \"single_word\": false}]}";
    lb_side_file side = {
        .name = LB_STR("tokenizer.json"), .bytes = lb_str_c(json), .size_bytes = sizeof json - 1};
    lb_source *s = lb_source_new(LB_FORMAT_HF, "m");
    lb_encoder *e = NULL;
    lb_err err = {0};
    lb_buf ids = {0};
    static const u32 want[] = {0, 1, 2, 0};
    s->sides = &side;
    s->n_sides = 1;
    CHECK_OK(lb_encoder_open(&e, s, &err));
    CHECK_OK(lb_encoder_encode(e, LB_STR("x<a> bx"), false, &ids, &err));
    CHECK(ids.len == sizeof want && memcmp(ids.ptr, want, sizeof want) == 0);
    lb_buf_deinit(&ids);
    lb_encoder_close(&e);
    s->n_sides = 0;
    lb_source_close(&s);
}

/* The same, where a token must stand alone: beside a letter in a circle, a Roman numeral or a
 * joiner it does not; beside a number in a circle it does. */
LB_TEST(a_token_that_stands_alone) {
    static const char json[] =
        "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"x\": 0}, \"merges\": []}, "
        "\"added_tokens\": [{\"id\": 1, \"content\": \"xx\", \"special\": true, "
        "\"normalized\": false, \"lstrip\": false, \"rstrip\": false, \"single_word\": true}]}";
    static const struct {
        const char *text;
        bool alone;
    } t[] = {{" xx ", true},
             {"\xe2\x93\x8fxx", false},
             {"xx\xe2\x85\xb7", false},
             {"\xe2\x80\x8dxx", false},
             {"xx\xf0\x9f\x85\xa0", false},
             {"xx_", false},
             {"\xe2\x91\xa0xx", true}};
    lb_side_file side = {
        .name = LB_STR("tokenizer.json"), .bytes = lb_str_c(json), .size_bytes = sizeof json - 1};
    lb_source *s = lb_source_new(LB_FORMAT_HF, "m");
    lb_encoder *e = NULL;
    lb_err err = {0};
    s->sides = &side;
    s->n_sides = 1;
    CHECK_OK(lb_encoder_open(&e, s, &err));
    for (u32 i = 0; i < LB_LEN(t); i++) {
        lb_buf ids = {0};
        CHECK_OK(lb_encoder_encode(e, lb_str_c(t[i].text), false, &ids, &err));
        u32 id = 9;
        if (ids.len == sizeof id)
            memcpy(&id, ids.ptr, sizeof id);
        if ((id == 1) != t[i].alone)
            lb_test_fail(__FILE__, __LINE__, "'%s': %u", t[i].text, id);
        lb_buf_deinit(&ids);
    }
    lb_encoder_close(&e);
    s->n_sides = 0;
    lb_source_close(&s);
}

LB_TEST_MAIN("fast")
