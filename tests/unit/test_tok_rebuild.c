/* SPDX-License-Identifier: Apache-2.0 */
/* test_tok_rebuild.c: a tokenizer.json from keys of a GGUF that lbrx did not write: kinds of
 * vocabulary beside BPE, and what llama.cpp knows by the names of a model. That the ids are those
 * of sentencepiece and transformers is tests/peers/peer_tok_kinds.py. */
#include "io/json.h"
#include "test.h"
#include "text/spm.h"
#include "text/tokdata.h"
#include "tokhelp.h"

#define SPACE "\xe2\x96\x81"

typedef struct vocab {
    const char *model;
    const char *const *tokens;
    const i32 *types;
    const float *scores; /* NULL: none */
    u64 n;
} vocab;

static lb_status put_vocab(const vocab *v, lb_gguf_meta *m, lb_err *err) {
    lb_str list[32];
    LB_ASSERT(v->n <= LB_LEN(list));
    for (u64 i = 0; i < v->n; i++)
        list[i] = lb_str_c(v->tokens[i]);
    LB_TRY(lb_meta_set_str(m, "tokenizer.ggml.model", lb_str_c(v->model), err));
    LB_TRY(lb_meta_set_array(m, "tokenizer.ggml.tokens", LB_GGUF_STR, v->n, list, err));
    LB_TRY(lb_meta_set_array(m, "tokenizer.ggml.token_type", LB_GGUF_I32, v->n, v->types, err));
    return v->scores
               ? lb_meta_set_array(m, "tokenizer.ggml.scores", LB_GGUF_F32, v->n, v->scores, err)
               : LB_OK;
}

/* The bytes of a made file; ptr is NULL when there is none. */
static lb_str made(const lb_gguf_meta *m, const char *name, lb_arena *a, lb_err *err) {
    lb_tok_file *files;
    u64 n;
    if (lb_tok_files_from_meta(m, a, &files, &n, err) != LB_OK)
        return LB_STR_NONE;
    for (u64 i = 0; i < n; i++)
        if (lb_str_eq_c(files[i].name, name))
            return tok_bytes(&files[i], a, err);
    return LB_STR_NONE;
}

static lb_json *made_json(const lb_gguf_meta *m, lb_arena *a, lb_err *err) {
    lb_json *v = NULL;
    lb_str text = made(m, "tokenizer.json", a, err);
    return text.ptr && lb_json_parse(text, "made", a, &v, err) == LB_OK ? v : NULL;
}

/* The member at path as compact JSON. */
static lb_str compact(const lb_json *root, const char *path, lb_arena *a) {
    lb_buf b = {0};
    const lb_json *v = lb_json_path(root, path);
    if (v)
        lb_json_write(&b, v, (lb_json_style){.compact = true});
    lb_str s = lb_arena_str(a, lb_buf_str(&b));
    lb_buf_deinit(&b);
    return s;
}

static const char *const words[] = {"[PAD]", "[UNK]",     "[CLS]", "[SEP]",   SPACE "ab",     "c",
                                    "##",    SPACE "##a", "<x>",   SPACE "d", SPACE "[PAD10]"};
static const i32 word_types[] = {3, 3, 3, 3, 1, 1, 1, 1, 4, 1, 5};

/* GGUF marks what begins a word, the file what goes on with one; numbers without a token are in
 * neither. */
LB_TEST(wordpiece) {
    static const vocab v = {"bert", words, word_types, NULL, LB_LEN(words)};
    lb_err err = {0};
    lb_arena a = {0};
    lb_gguf_meta m;
    lb_meta_init(&m, &a);
    CHECK_OK(put_vocab(&v, &m, &err));
    CHECK(!made_json(&m, &a, &err)); /* llama.cpp's 100, 101, 102 are beyond the tokens */
    CHECK_OK(lb_meta_set_u32(&m, "tokenizer.ggml.unknown_token_id", 1, &err));
    CHECK_OK(lb_meta_set_u32(&m, "tokenizer.ggml.cls_token_id", 2, &err));
    CHECK_OK(lb_meta_set_u32(&m, "tokenizer.ggml.seperator_token_id", 3, &err));
    lb_json *root = made_json(&m, &a, &err);
    CHECK(root);
    CHECK_STR(compact(root, "model", &a),
              "{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":"
              "\"##\",\"max_input_chars_per_word\":100,\"vocab\":{\"[PAD]\":0,\"[UNK]\":1,"
              "\"[CLS]\":2,\"[SEP]\":3,\"ab\":4,\"##c\":5,\"####\":6,\"##a\":7,\"<x>\":8,"
              "\"d\":9}}");
    CHECK_STR(compact(root, "normalizer", &a),
              "{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true,"
              "\"strip_accents\":null,\"lowercase\":true}");
    CHECK_STR(compact(root, "post_processor.single", &a),
              "[{\"SpecialToken\":{\"id\":\"[CLS]\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\","
              "\"type_id\":0}},{\"SpecialToken\":{\"id\":\"[SEP]\",\"type_id\":0}}]");
    CHECK_STR(compact(root, "post_processor.pair", &a),
              "[{\"SpecialToken\":{\"id\":\"[CLS]\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\","
              "\"type_id\":0}},{\"SpecialToken\":{\"id\":\"[SEP]\",\"type_id\":0}},{\"Sequence\":"
              "{\"id\":\"B\",\"type_id\":1}},{\"SpecialToken\":{\"id\":\"[SEP]\",\"type_id\":1}}]");
    CHECK_U64(lb_json_get(root, "added_tokens")->n, 5);
    CHECK_OK(lb_meta_set_bool(&m, "tokenizer.ggml.normalizer.lowercase", false, &err));
    CHECK_OK(lb_meta_set_bool(&m, "tokenizer.ggml.normalizer.strip_accents", true, &err));
    root = made_json(&m, &a, &err);
    CHECK(root);
    CHECK_STR(compact(root, "normalizer.lowercase", &a), "false");
    CHECK_STR(compact(root, "normalizer.strip_accents", &a), "true");
    lb_meta_deinit(&m);
    lb_arena_deinit(&a);
}

static const char *const pieces[] = {"<pad>", "</s>",   "<unk>", SPACE,   SPACE "a",
                                     "b",     "<0x41>", "<m>",   "[PAD8]"};
static const i32 piece_types[] = {3, 3, 2, 1, 1, 1, 6, 4, 5};
static const float piece_scores[] = {0, 0, 0, -2.5f, -3.25f, -0.1f, 0, 0, -10000};

LB_TEST(unigram) {
    static const vocab v = {"t5", pieces, piece_types, piece_scores, LB_LEN(pieces)};
    /* a trie of one unit, then one text */
    static const u8 charsmap[] = {4, 0, 0, 0, 0, 1, 2, 255, 'x', 0};
    lb_err err = {0};
    lb_arena a = {0};
    lb_gguf_meta m;
    size_t at;
    lb_meta_init(&m, &a);
    CHECK_OK(put_vocab(&v, &m, &err));
    CHECK_OK(lb_meta_set_array(&m, "tokenizer.ggml.precompiled_charsmap", LB_GGUF_I8,
                               sizeof charsmap, charsmap, &err));
    CHECK_OK(lb_meta_set_bool(&m, "tokenizer.ggml.remove_extra_whitespaces", true, &err));
    CHECK_OK(lb_meta_set_u32(&m, "tokenizer.ggml.eos_token_id", 1, &err));
    lb_json *root = made_json(&m, &a, &err);
    CHECK(root);
    CHECK_STR(compact(root, "model", &a),
              "{\"type\":\"Unigram\",\"unk_id\":2,\"vocab\":[[\"<pad>\",0.0],[\"</s>\",0.0],"
              "[\"<unk>\",0.0],[\"" SPACE "\",-2.5],[\"" SPACE
              "a\",-3.25],[\"b\",-0.10000000149011612],[\"<0x41>\",0.0],[\"<m>\",0.0],"
              "[\"[PAD8]\",-10000.0]],\"byte_fallback\":true}");
    CHECK_STR(compact(root, "normalizer.normalizers", &a),
              "[{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"BAAAAAABAv94AA==\"},"
              "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\\\\A +| +\\\\z\"},\"content\":\"\"},"
              "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},\"content\":\" \"},"
              "{\"type\":\"Prepend\",\"prepend\":\"" SPACE "\"},"
              "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" SPACE "\"}]");
    CHECK_STR(compact(root, "post_processor.single", &a),
              "[{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},{\"SpecialToken\":{\"id\":\"</s>\","
              "\"type_id\":0}}]");
    CHECK_U64(lb_json_get(root, "added_tokens")->n, 4); /* <pad>, </s>, <unk>, <m> */
    lb_str model = made(&m, "tokenizer.model", &a, &err);
    lb_spm spm;
    CHECK(model.ptr);
    CHECK_OK(lb_spm_parse(&spm, model, "made", &a, &err));
    CHECK_U64(spm.n_pieces, LB_LEN(pieces));
    CHECK(spm.model == LB_SPM_UNIGRAM && spm.byte_fallback && spm.add_dummy_prefix &&
          spm.remove_extra_whitespaces);
    CHECK(lb_str_eq(spm.precompiled_charsmap, (lb_str){(const char *)charsmap, sizeof charsmap}));
    CHECK_OK(lb_meta_set_bool(&m, "tokenizer.ggml.add_space_prefix", false, &err));
    CHECK(!lb_str_find(made(&m, "tokenizer.json", &a, &err), LB_STR("\"Prepend\""), &at));
    lb_meta_deinit(&m);
    lb_arena_deinit(&a);
}

LB_TEST(broken_kinds_are_refused) {
    static const float infinite[] = {0, 0, 0, -1e38f * 10, 0, 0, 0, 0, 0};
    static const u8 longer[] = {6, 0, 0, 0, 1, 2, 3, 4, 5, 6};
    static const struct {
        const char *model, *why;
        const float *scores;
        u64 n_map;
        lb_gguf_type map;
    } cases[] = {
        {"t5", "scores: a \"t5\" tokenizer needs them", NULL, 0, LB_GGUF_U8},
        {"t5", "scores: that of token 3 is none", infinite, 0, LB_GGUF_U8},
        {"t5", "charsmap: an array of bytes", piece_scores, 2, LB_GGUF_U32},
        {"t5", "charsmap: its trie is longer", piece_scores, 10, LB_GGUF_U8},
        {"t5", "charsmap: its trie is longer", piece_scores, 3, LB_GGUF_U8},
        {"bert", "needs the ids", NULL, 0, LB_GGUF_U8},
        {"rwkv", "model \"rwkv\" has no form", NULL, 0, LB_GGUF_U8},
        {"plamo2", "model \"plamo2\" has no form", piece_scores, 0, LB_GGUF_U8},
    };
    for (u32 i = 0; i < LB_LEN(cases); i++) {
        vocab v = {cases[i].model, pieces, piece_types, cases[i].scores, LB_LEN(pieces)};
        lb_err err = {0};
        lb_arena a = {0};
        lb_gguf_meta m;
        size_t at;
        lb_meta_init(&m, &a);
        CHECK_OK(put_vocab(&v, &m, &err));
        if (cases[i].n_map)
            CHECK_OK(lb_meta_set_array(&m, "tokenizer.ggml.precompiled_charsmap", cases[i].map,
                                       cases[i].n_map, longer, &err));
        CHECK(!made_json(&m, &a, &err));
        if (!lb_str_find(lb_str_c(err.msg), lb_str_c(cases[i].why), &at))
            lb_test_fail(__FILE__, __LINE__, "%s: %s", cases[i].why, err.msg);
        lb_meta_deinit(&m);
        lb_arena_deinit(&a);
    }
}

static lb_status put_key(lb_gguf_meta *m, const char *key, i32 type, const char *text,
                         lb_err *err) {
    return type == LB_GGUF_STR   ? lb_meta_set_str(m, key, lb_str_c(text), err)
           : type == LB_GGUF_U32 ? lb_meta_set_u32(m, key, 1, err)
                                 : lb_meta_set_bool(m, key, true, err);
}

/* Would be read as if the key were not there, or written as a file that nobody can open. */
LB_TEST(broken_keys_are_refused) {
    static const char *const tokens[] = {"<s>", "a", "\xff"};
    static const i32 types[] = {3, 1, 1};
    static const struct {
        const char *key;
        i32 type;
        const char *text, *why; /* why NULL: none of it */
        u64 n;
    } cases[] = {
        {"tokenizer.ggml.x", LB_GGUF_U32, NULL, NULL, 2},
        {"tokenizer.ggml.x", LB_GGUF_U32, NULL, "token 2 is not UTF-8", 3},
        {"tokenizer.ggml.bos_token_id", LB_GGUF_STR, "<s>", "bos_token_id: the number", 2},
        {"tokenizer.ggml.eot_token_id", LB_GGUF_BOOL, NULL, "eot_token_id: the number", 2},
        {"tokenizer.ggml.add_bos_token", LB_GGUF_U32, NULL, "add_bos_token: true or false", 2},
        {"tokenizer.ggml.add_sep_token", LB_GGUF_STR, "true", "add_sep_token: true or false", 2},
        {"tokenizer.huggingface.json", LB_GGUF_STR, "{\"x\":", "huggingface.json: JSON", 2},
        {"tokenizer.huggingface.json", LB_GGUF_STR, "[]", "huggingface.json: an object", 2},
        {"tokenizer.huggingface.json", LB_GGUF_STR, "{}", "huggingface.json: no \"model\"", 2},
    };
    for (u32 i = 0; i < LB_LEN(cases); i++) {
        vocab v = {"gpt2", tokens, types, NULL, cases[i].n};
        lb_err err = {0};
        lb_arena a = {0};
        lb_gguf_meta m;
        size_t at;
        lb_meta_init(&m, &a);
        CHECK_OK(put_vocab(&v, &m, &err));
        CHECK_OK(lb_meta_set_str(&m, "tokenizer.ggml.pre", LB_STR("gpt-2"), &err));
        CHECK_OK(put_key(&m, cases[i].key, cases[i].type, cases[i].text, &err));
        CHECK(!made_json(&m, &a, &err) == (cases[i].why != NULL));
        if (cases[i].why && !lb_str_find(lb_str_c(err.msg), lb_str_c(cases[i].why), &at))
            lb_test_fail(__FILE__, __LINE__, "%s: %s", cases[i].why, err.msg);
        lb_meta_deinit(&m);
        lb_arena_deinit(&a);
    }
}

/* ---- by the names of a model ---- */

static bool flag_of(const lb_json *root, const char *token, const char *flag) {
    bool on = false;
    for (const lb_json *o = lb_json_get(root, "added_tokens")->first; o; o = o->next)
        if (lb_str_eq_c(lb_json_get(o, "content")->text, token))
            (void)lb_json_as_bool(lb_json_get(o, flag), &on);
    return on;
}

/* lstrip and rstrip: GGUF has no place for them, llama.cpp sets them by name. */
LB_TEST(names_tell_what_takes_blanks) {
    static const char *const tokens[] = {"<unk>",    "<s>",    "</s>", "<|endoftext|>",
                                         "<|user|>", "<mask>", "a"};
    static const i32 types[] = {2, 3, 3, 3, 3, 4, 1};
    static const float scores[] = {0, 0, 0, -1000, -1000, -1000, -1};
    static const vocab v = {"llama", tokens, types, scores, LB_LEN(tokens)};
    static const struct {
        const char *key, *value;
        bool user_right, mask_left;
    } cases[] = {
        {"general.name", "Tiny", false, false},
        {"general.name", "My Phi-3 Mini", true, false},
        {"general.name", "Phi3", true, false},
        {"general.architecture", "jina-bert-v3", false, true},
    };
    for (u32 i = 0; i < LB_LEN(cases); i++) {
        lb_err err = {0};
        lb_arena a = {0};
        lb_gguf_meta m;
        lb_json *root, *config;
        lb_meta_init(&m, &a);
        CHECK_OK(lb_meta_set_str(&m, cases[i].key, lb_str_c(cases[i].value), &err));
        CHECK_OK(put_vocab(&v, &m, &err));
        root = made_json(&m, &a, &err);
        CHECK(root);
        CHECK(flag_of(root, "<|user|>", "rstrip") == cases[i].user_right);
        CHECK(flag_of(root, "</s>", "rstrip") == cases[i].user_right);
        CHECK(flag_of(root, "<mask>", "lstrip") == cases[i].mask_left);
        CHECK(!flag_of(root, "<s>", "rstrip") && !flag_of(root, "<|endoftext|>", "rstrip"));
        CHECK(!flag_of(root, "<|user|>", "lstrip"));
        /* transformers adds the tokens of this file over those of tokenizer.json */
        CHECK_OK(lb_json_parse(made(&m, "tokenizer_config.json", &a, &err), "config", &a, &config,
                               &err));
        CHECK_STR(compact(config, "added_tokens_decoder.4.rstrip", &a),
                  cases[i].user_right ? "true" : "false");
        lb_meta_deinit(&m);
        lb_arena_deinit(&a);
    }
}

/* A user-defined run of spaces: with a prefix the text is matched as it is, before it is put. */
LB_TEST(runs_of_spaces) {
    static const char *const tokens[] = {"<unk>", "  ", "   ", SPACE, "a"};
    static const i32 types[] = {2, 4, 1, 1, 1}; /* 2: a piece that no text gives */
    static const float scores[] = {0, -1000, 0, -1, -2};
    static const vocab v = {"llama", tokens, types, scores, LB_LEN(tokens)};
    for (u32 prefix = 0; prefix < 2; prefix++) {
        lb_err err = {0};
        lb_arena a = {0};
        lb_gguf_meta m;
        lb_meta_init(&m, &a);
        CHECK_OK(put_vocab(&v, &m, &err));
        CHECK_OK(lb_meta_set_bool(&m, "tokenizer.ggml.add_space_prefix", prefix == 1, &err));
        lb_json *root = made_json(&m, &a, &err);
        CHECK(root);
        const lb_json *added = lb_json_get(root, "added_tokens");
        CHECK_U64(added->n, 2);
        CHECK_STR(lb_json_get(added->last, "content")->text, prefix ? "  " : SPACE SPACE);
        CHECK(lb_json_get(lb_json_path(root, "model.vocab"), prefix ? "  " : SPACE SPACE));
        lb_meta_deinit(&m);
        lb_arena_deinit(&a);
    }
}

/* Where add_bos_token is not there, and where llama.cpp does not ask it. */
LB_TEST(pre_tokenizers_that_add_bos) {
    static const char *const tokens[] = {"<s>", "a"};
    static const i32 types[] = {3, 1};
    static const struct {
        const char *pre;
        int key; /* -1: none */
        bool bos;
    } cases[] = {{"gemma4", -1, true},    {"gemma4", 0, true},     {"sarvam-moe", -1, false},
                 {"sarvam-moe", 1, true}, {"llama-bpe", -1, true}, {"llama-bpe", 0, false},
                 {"qwen2", -1, false}};
    for (u32 i = 0; i < LB_LEN(cases); i++) {
        vocab v = {"gpt2", tokens, types, NULL, LB_LEN(tokens)};
        lb_err err = {0};
        lb_arena a = {0};
        lb_gguf_meta m;
        lb_meta_init(&m, &a);
        CHECK_OK(put_vocab(&v, &m, &err));
        CHECK_OK(lb_meta_set_str(&m, "tokenizer.ggml.pre", lb_str_c(cases[i].pre), &err));
        CHECK_OK(lb_meta_set_u32(&m, "tokenizer.ggml.bos_token_id", 0, &err));
        if (cases[i].key >= 0)
            CHECK_OK(lb_meta_set_bool(&m, "tokenizer.ggml.add_bos_token", cases[i].key == 1, &err));
        lb_json *root = made_json(&m, &a, &err);
        CHECK(root);
        const lb_json *post = lb_json_get(root, "post_processor");
        CHECK((post && post->type == LB_JOBJECT) == cases[i].bos);
        lb_meta_deinit(&m);
        lb_arena_deinit(&a);
    }
}

/* Where a GGUF names no token for the ends of a text, llama.cpp has its own numbers; those of
 * byte-level BPE are a comma's. */
LB_TEST(ends_without_a_key) {
    static const char *const tokens[] = {"<unk>", "<s>", "</s>", "a"};
    static const i32 types[] = {2, 3, 3, 1};
    static const float scores[] = {0, 0, 0, -1};
    static const struct {
        const char *model, *pre;
        const char *single; /* "": no post-processor */
    } cases[] = {
#define A "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}"
#define END(text) "{\"SpecialToken\":{\"id\":\"" text "\",\"type_id\":0}}"
        {"llama", NULL, "[" END("<s>") "," A "," END("</s>") "]"},
        {"t5", NULL, "[" A "," END("<s>") "]"},
        {"gpt2", "llama-bpe", ""},
    };
    for (u32 i = 0; i < LB_LEN(cases); i++) {
        vocab v = {cases[i].model, tokens, types, scores, LB_LEN(tokens)};
        lb_err err = {0};
        lb_arena a = {0};
        lb_gguf_meta m;
        lb_meta_init(&m, &a);
        CHECK_OK(put_vocab(&v, &m, &err));
        if (cases[i].pre)
            CHECK_OK(lb_meta_set_str(&m, "tokenizer.ggml.pre", lb_str_c(cases[i].pre), &err));
        CHECK_OK(
            lb_meta_set_u32(&m, "tokenizer.ggml.bos_token_id", 4, &err)); /* there is no such */
        CHECK_OK(lb_meta_set_bool(&m, "tokenizer.ggml.add_eos_token", true, &err));
        lb_json *root = made_json(&m, &a, &err);
        CHECK(root);
        CHECK_STR(compact(root, "post_processor.single", &a), cases[i].single);
        lb_meta_deinit(&m);
        lb_arena_deinit(&a);
    }
}

LB_TEST_MAIN("fast")
