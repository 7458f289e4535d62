/* SPDX-License-Identifier: Apache-2.0 */
/* test_tok_class.c: the tokens that transformers' classes and the older files bring along, against
 * tests/golden/text/class.json (made by make_class.py there). */
#include "base/os.h"
#include "io/json.h"
#include "test.h"
#include "text/tokdata.h"
#include "tokhelp.h"
#include <stdio.h>

static lb_status write_text(const char *dir, lb_str name, lb_str text, lb_err *err) {
    lb_arena a = {0};
    const char *path = lb_os_join(&a, dir, name);
    int fd = -1;
    lb_status st = lb_os_unlink(path, err);
    if (st == LB_OK)
        st = lb_os_open_write(path, true, &fd, err);
    if (st == LB_OK)
        st = lb_os_pwrite(fd, path, text.ptr, text.len, 0, err);
    lb_os_close(&fd);
    lb_arena_deinit(&a);
    return st;
}

static lb_status write_json(const char *dir, lb_str name, const lb_json *v, lb_err *err) {
    lb_buf text = {0};
    lb_json_write(&text, v, (lb_json_style){.compact = true});
    lb_status st = write_text(dir, name, lb_buf_str(&text), err);
    lb_buf_deinit(&text);
    return st;
}

static bool same_tokens(const lb_gguf_kv *have, const lb_json *want) {
    u64 i = 0;
    if (!have || have->n != want->n)
        return false;
    for (const lb_json *o = want->first; o; o = o->next, i++) {
        lb_str token;
        if (!lb_kv_elem_str(have, i, &token) || !lb_str_eq(token, o->text))
            return false;
    }
    return true;
}

static lb_status make_keys(const char *dir, u64 n_vocab, lb_gguf_meta *meta, lb_err *err) {
    lb_tok_opts opts = {
        .arch = LB_STR("qwen2"), .n_vocab = n_vocab, .pre = LB_STR("gpt-2")}; /* BPE for all */
    lb_source *src = tok_source(dir, err);
    if (!src)
        return LB_E_IO;
    lb_status st = tok_keys(src, &opts, meta, err);
    lb_source_close(&src);
    return st;
}

LB_TEST(classes_bring_their_tokens) {
    lb_err err = {0};
    lb_arena a = {0};
    lb_str text;
    lb_json *golden;
    u32 n = 0;
    CHECK_OK(lb_os_read_file(lb_test_golden("text/class.json"), LB_MIB, &a, &text, &err));
    CHECK_OK(lb_json_parse(text, "class.json", &a, &golden, &err));
    for (const lb_json *row = lb_json_get(golden, "rows")->first; row; row = row->next, n++) {
        const lb_json *want = lb_json_get(row, "tokens");
        lb_gguf_meta meta;
        lb_meta_init(&meta, &a);
        lb_str dir = lb_arena_printf(&a, "%s/class-%u", lb_test_dir(), n);
        CHECK_OK(lb_os_mkdir(dir.ptr, false, &err));
        CHECK_OK(
            write_json(dir.ptr, LB_STR("tokenizer.json"), lb_json_get(golden, "tokenizer"), &err));
        for (const lb_json *f = lb_json_get(row, "files")->first; f; f = f->next)
            CHECK_OK(write_json(dir.ptr, f->key, f, &err));
        CHECK_OK(make_keys(dir.ptr, 0, &meta, &err));
        const lb_gguf_kv *have = lb_meta_find(&meta, "tokenizer.ggml.tokens");
        if (!same_tokens(have, want))
            fprintf(stderr, "row %u of class.json\n", n);
        CHECK(same_tokens(have, want));
        lb_meta_deinit(&meta);
    }
    CHECK(n > 15);
    lb_arena_deinit(&a);
}

/* A model without rows for what the class brought along: the tokens stay out. */
LB_TEST(tokens_without_a_row_stay_out) {
    lb_err err = {0};
    lb_arena a = {0};
    lb_gguf_meta meta;
    lb_meta_init(&meta, &a);
    lb_str dir = lb_arena_printf(&a, "%s/class-0", lb_test_dir());
    CHECK_OK(make_keys(dir.ptr, 4, &meta, &err));
    CHECK(lb_meta_find(&meta, "tokenizer.ggml.tokens")->n == 4);
    lb_meta_deinit(&meta);
    lb_meta_init(&meta, &a);
    CHECK(make_keys(dir.ptr, 3, &meta, &err) == LB_E_FORMAT); /* the file's own */
    lb_meta_deinit(&meta);
    lb_arena_deinit(&a);
}

/* The class of llama looks for these before the first of its ways: a tokenizer.model does not help.
 */
LB_TEST(what_llama_cannot_read_is_refused) {
    static const struct {
        const char *dir, *file, *text, *why;
    } cases[] = {
        {"tekken", "tekken.json", "{}", "Mistral's own format"},
        {"dna", "tokenizer_config.json", "{\"tokenizer_class\": \"HybridDNATokenizer\"}",
         "words of DNA"},
    };
    lb_arena a = {0};
    for (u32 i = 0; i < LB_LEN(cases); i++) {
        lb_err err = {0};
        lb_gguf_meta meta;
        lb_json *v;
        size_t at;
        lb_tok_opts opts = {.arch = LB_STR("llama")};
        lb_str dir = lb_arena_printf(&a, "%s/%s", lb_test_dir(), cases[i].dir);
        lb_meta_init(&meta, &a);
        CHECK_OK(lb_os_mkdir(dir.ptr, false, &err));
        CHECK_OK(lb_json_parse(lb_str_c(cases[i].text), "case", &a, &v, &err));
        CHECK_OK(write_json(dir.ptr, lb_str_c(cases[i].file), v, &err));
        CHECK_OK(lb_json_parse(LB_STR("{}"), "case", &a, &v, &err));
        CHECK_OK(write_json(dir.ptr, LB_STR("tokenizer.model"), v, &err)); /* never opened */
        lb_source *src = tok_source(dir.ptr, &err);
        CHECK(src);
        CHECK(tok_keys(src, &opts, &meta, &err) == LB_E_UNSUPPORTED);
        CHECK(lb_str_find(lb_str_c(err.msg), lb_str_c(cases[i].why), &at));
        lb_source_close(&src);
        lb_meta_deinit(&meta);
    }
    lb_arena_deinit(&a);
}

/* The reference types what SentencePiece's trainer was told to keep whole as normal; no pair gives
 * it, so in a tokenizer.json it must stand among the added tokens, in a tokenizer.model as 4. */
LB_TEST(pieces_kept_whole_stay_whole) {
    static const lb_str tokens[] = {{"<unk>", 5}, {"<s>", 3}, {"</s>", 4}, {"[INST]", 6},
                                    {"ab", 2},    {"a", 1},   {"b", 1}};
    static const float scores[] = {0, 0, 0, 0, -0.0f, -1, -2};
    static const i32 types[] = {2, 3, 3, 1, 1, 1, 1};
    lb_err err = {0};
    lb_arena a = {0};
    lb_gguf_meta meta;
    lb_tok_file *files;
    u64 n, n_added = 0;
    lb_meta_init(&meta, &a);
    CHECK_OK(lb_meta_set_str(&meta, "tokenizer.ggml.model", LB_STR("llama"), &err));
    CHECK_OK(lb_meta_set_array(&meta, "tokenizer.ggml.tokens", LB_GGUF_STR, 7, tokens, &err));
    CHECK_OK(lb_meta_set_array(&meta, "tokenizer.ggml.scores", LB_GGUF_F32, 7, scores, &err));
    CHECK_OK(lb_meta_set_array(&meta, "tokenizer.ggml.token_type", LB_GGUF_I32, 7, types, &err));
    CHECK_OK(lb_tok_files_from_meta(&meta, &a, &files, &n, &err));
    for (u64 i = 0; i < n; i++) {
        lb_json *json;
        size_t at;
        lb_str bytes = tok_bytes(&files[i], &a, &err);
        if (lb_str_eq_c(files[i].name, "tokenizer.model"))
            CHECK(lb_str_find(bytes, LB_STR("[INST]\x15\0\0\0\0\x18\x04"), &at));
        if (!lb_str_eq_c(files[i].name, "tokenizer.json"))
            continue;
        CHECK_OK(lb_json_parse(bytes, "tokenizer.json", &a, &json, &err));
        const lb_json *o = lb_json_get(json, "added_tokens");
        for (o = o ? o->first : NULL; o; o = o->next, n_added++) {
            bool special = true, whole = lb_str_eq_c(lb_json_get(o, "content")->text, "[INST]");
            CHECK(lb_json_as_bool(lb_json_get(o, "special"), &special) && special != whole);
        }
    }
    CHECK_U64(n_added, 4);
    lb_meta_deinit(&meta);
    lb_arena_deinit(&a);
}

/* -1 in old configs is no token; so is an empty template no key of GGUF, but the file comes back.
 */
LB_TEST(what_is_none_is_no_error) {
    static const lb_str names[] = {
        {"tokenizer.json", 14}, {"tokenizer_config.json", 21}, {"config.json", 11}};
    static const char json[] = "{\"added_tokens\":[],\"model\":{\"type\":\"BPE\","
                               "\"vocab\":{\"a\":0,\"b\":1},\"merges\":[]}}";
    static const char *const texts[] = {json, "{\"eos_token\":null}",
                                        "{\"pad_token_id\":-1,\"eos_token_id\":1}"};
    lb_err err = {0};
    lb_arena a = {0};
    lb_gguf_meta meta;
    lb_tok_file *files;
    u64 n, n_templates = 0;
    int fd;
    lb_json *v;
    lb_meta_init(&meta, &a);
    lb_str dir = lb_arena_printf(&a, "%s/none", lb_test_dir());
    CHECK_OK(lb_os_mkdir(dir.ptr, false, &err));
    for (u32 i = 0; i < LB_LEN(names); i++) {
        CHECK_OK(lb_json_parse(lb_str_c(texts[i]), "case", &a, &v, &err));
        CHECK_OK(write_json(dir.ptr, names[i], v, &err));
    }
    CHECK_OK(
        lb_os_open_write(lb_os_join(&a, dir.ptr, LB_STR("chat_template.jinja")), true, &fd, &err));
    lb_os_close(&fd);
    lb_source *src = tok_source(dir.ptr, &err);
    CHECK(src);
    lb_tok_opts opts = {.arch = LB_STR("olmo2"), .pre = LB_STR("gpt-2"), .keep = true};
    CHECK_OK(tok_keys(src, &opts, &meta, &err));
    CHECK(!lb_meta_find(&meta, "tokenizer.ggml.padding_token_id"));
    CHECK(lb_meta_find(&meta, "tokenizer.ggml.eos_token_id"));
    CHECK(!lb_meta_find(&meta, "tokenizer.chat_template"));
    CHECK_OK(lb_tok_files_from_meta(&meta, &a, &files, &n, &err));
    for (u64 i = 0; i < n; i++)
        n_templates += lb_str_eq_c(files[i].name, "chat_template.jinja") && files[i].bytes.len == 0;
    CHECK_U64(n_templates, 1);
    lb_source_close(&src);
    lb_meta_deinit(&meta);
    lb_arena_deinit(&a);
}

/* What tokenizer_config.json says of a token goes over tokenizer.json: the settings in its list,
 * and that one with a name of its own (pad_token) is special; not what it lists as extra. The
 * reference writes 1 1 3 3 4 for this folder. */
LB_TEST(the_config_says_what_is_special) {
    static const lb_str names[] = {
        {"tokenizer.json", 14}, {"tokenizer_config.json", 21}, {"config.json", 11}};
    static const char *const texts[] = {
        "{\"added_tokens\":[{\"id\":2,\"content\":\"PAD\",\"special\":false},"
        "{\"id\":3,\"content\":\"START\",\"special\":false},"
        "{\"id\":4,\"content\":\"EXTRA\",\"special\":false}],"
        "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[]}}",
        ("{\"pad_token\":\"PAD\",\"extra_special_tokens\":[\"EXTRA\"],"
         "\"added_tokens_decoder\":{\"3\":{\"content\":\"START\",\"special\":true}}}"),
        "{}"};
    static const u64 want[] = {1, 1, 3, 3, 4};
    lb_err err = {0};
    lb_arena a = {0};
    lb_gguf_meta meta;
    lb_json *v;
    lb_meta_init(&meta, &a);
    lb_str dir = lb_arena_printf(&a, "%s/special", lb_test_dir());
    CHECK_OK(lb_os_mkdir(dir.ptr, false, &err));
    for (u32 i = 0; i < LB_LEN(names); i++) {
        CHECK_OK(lb_json_parse(lb_str_c(texts[i]), "case", &a, &v, &err));
        CHECK_OK(write_json(dir.ptr, names[i], v, &err));
    }
    CHECK_OK(make_keys(dir.ptr, 0, &meta, &err));
    const lb_gguf_kv *types = lb_meta_find(&meta, "tokenizer.ggml.token_type");
    CHECK(types && types->n == LB_LEN(want));
    for (u64 i = 0; i < LB_LEN(want); i++) {
        u64 type = 0;
        CHECK(lb_kv_elem_u64(types, i, &type));
        CHECK_U64(type, want[i]);
    }
    lb_meta_deinit(&meta);
    lb_arena_deinit(&a);
}

static bool has_text(const lb_gguf_meta *meta, const char *key, const char *text) {
    lb_str v;
    return lb_kv_as_str(lb_meta_find(meta, key), &v) && lb_str_eq_c(v, text);
}

/* The reference and transformers read the files of templates with Python's text mode. */
LB_TEST(lines_of_templates_end_as_in_python) {
    static const char tokenizer[] = "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},"
                                    "\"merges\":[]}}";
    lb_err err = {0};
    lb_arena a = {0};
    lb_gguf_meta meta;
    lb_tok_file *files;
    u64 n, n_same = 0;
    lb_meta_init(&meta, &a);
    lb_str dir = lb_arena_printf(&a, "%s/lines", lb_test_dir());
    lb_str more = lb_arena_printf(&a, "%s/additional_chat_templates", dir.ptr);
    CHECK_OK(lb_os_mkdir(dir.ptr, false, &err));
    CHECK_OK(lb_os_mkdir(more.ptr, false, &err));
    CHECK_OK(write_text(dir.ptr, LB_STR("tokenizer.json"), lb_str_c(tokenizer), &err));
    CHECK_OK(write_text(dir.ptr, LB_STR("tokenizer_config.json"), LB_STR("{\"x\":1}"), &err));
    CHECK_OK(write_text(dir.ptr, LB_STR("chat_template.jinja"), LB_STR("a\r\n\r\rb\n\r"), &err));
    CHECK_OK(write_text(more.ptr, LB_STR("tool.jinja"), LB_STR("\r\nc\r\n"), &err));
    lb_source *src = tok_source(dir.ptr, &err);
    CHECK(src);
    lb_tok_opts opts = {.arch = LB_STR("qwen2"), .pre = LB_STR("gpt-2"), .keep = true};
    CHECK_OK(tok_keys(src, &opts, &meta, &err));
    CHECK(has_text(&meta, "tokenizer.chat_template", "a\n\n\nb\n\n"));
    CHECK(has_text(&meta, "tokenizer.chat_template.tool", "\nc\n"));
    CHECK_OK(lb_tok_files_from_meta(&meta, &a, &files, &n, &err));
    for (u64 i = 0; i < n; i++)
        n_same += lb_str_eq_c(files[i].name, "chat_template.jinja") &&
                  lb_str_eq_c(files[i].bytes, "a\r\n\r\rb\n\r"); /* as it was */
    CHECK_U64(n_same, 1);
    lb_source_close(&src);
    lb_meta_deinit(&meta);
    lb_arena_deinit(&a);
}

#define TINY(added, token)                                                          \
    "{\"added_tokens\":[" added "],\"model\":{\"type\":\"BPE\",\"vocab\":{\"" token \
    "\":0,\"b\":1},\"merges\":[]}}"

/* What cannot stand in a GGUF, and what no reader of these files takes. */
LB_TEST(broken_small_files_are_refused) {
    static const struct {
        const char *file, *text, *why;
    } cases[] = {
        {"tokenizer.json", TINY("", "\\ud800"), "token 0 of the tokenizer is not UTF-8"},
        {"tokenizer.json", TINY("{\"id\":2,\"content\":\"\\udfff\"}", "a"), "token 2 of"},
        {"tokenizer.json", TINY("", "[PAD2]"),
         "tokens 0 and 2 of the tokenizer are both \"[PAD2]\""},
        {"tokenizer_config.json", "[1]", "tokenizer_config.json: an object"},
        {"tokenizer_config.json", "\"x\"", "tokenizer_config.json: an object"},
        {"tokenizer_config.json", "{\"chat_template\":\"\\ud800\"}", "chat_template is not UTF-8"},
        {"tokenizer_config.json", "{\"chat_template\":[{\"name\":\"t\",\"template\":\"\\udc00\"}]}",
         "tokenizer.chat_template.t is not UTF-8"},
        {"chat_template.jinja", "\xff\xfe", "tokenizer.chat_template is not UTF-8"},
        {"chat_template.json", "[]", "chat_template.json: an object"},
        {"added_tokens.json", "[\"x\"]", "added_tokens.json: an object"},
        {"special_tokens_map.json", "5", "special_tokens_map.json: an object"},
    };
    lb_arena a = {0};
    for (u32 i = 0; i < LB_LEN(cases); i++) {
        lb_err err = {0};
        lb_gguf_meta meta;
        size_t at;
        lb_str dir = lb_arena_printf(&a, "%s/broken-%u", lb_test_dir(), i);
        lb_meta_init(&meta, &a);
        CHECK_OK(lb_os_mkdir(dir.ptr, false, &err));
        CHECK_OK(write_text(dir.ptr, LB_STR("tokenizer.json"), LB_STR(TINY("", "a")), &err));
        CHECK_OK(write_text(dir.ptr, LB_STR("tokenizer_config.json"),
                            LB_STR("{\"eos_token\":\"b\"}"), &err));
        CHECK_OK(make_keys(dir.ptr, 0, &meta, &err));
        lb_meta_deinit(&meta);
        lb_meta_init(&meta, &a);
        CHECK_OK(write_text(dir.ptr, lb_str_c(cases[i].file), lb_str_c(cases[i].text), &err));
        CHECK(make_keys(dir.ptr, 3, &meta, &err) == LB_E_FORMAT);
        if (!lb_str_find(lb_str_c(err.msg), lb_str_c(cases[i].why), &at))
            lb_test_fail(__FILE__, __LINE__, "%s: %s", cases[i].file, err.msg);
        lb_meta_deinit(&meta);
    }
    lb_arena_deinit(&a);
}

LB_TEST_MAIN("fast")
