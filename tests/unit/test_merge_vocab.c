/* SPDX-License-Identifier: Apache-2.0 */
/* test_merge_vocab.c: which tokens a merge has and which rows they are made of; tokenizer.json with
 * tokens added and cut off; chat templates by name. */
#include "test.h"
#include "merge/result.h"
#include "merge/templates.h"
#include "merge/vocab.h"
#include "text/hf_edit.h"
#include "text/tok_edit.h"

#define BPE(vocab, merges, added)                                            \
    "{\"version\":\"1.0\",\"added_tokens\":[" added "],\"normalizer\":null," \
    "\"model\":{\"type\":\"BPE\",\"vocab\":{" vocab "},\"merges\":[" merges "]},\"decoder\":null}"
#define ADDED(id, text, special)                                                      \
    "{\"id\":" #id ",\"content\":\"" text "\",\"single_word\":false,\"lstrip\":true," \
    "\"rstrip\":false,\"normalized\":false,\"special\":" #special "}"

static const char first[] =
    BPE("\"a\":0,\"b\":1,\"ab\":2,\"c\":3", "\"a b\"", ADDED(4, "<s>", true));
static const char second[] =
    BPE("\"c\":0,\"d\":1,\"a\":2,\"e\":3,\"ab\":4", "",
        ADDED(5, "<s>", false) "," ADDED(6, "<x>", true) "," ADDED(3, "e", true));
static const char third[] = BPE("\"d\":0,\"a\":1", "", "");

static lb_arena arena;
static lb_hf_tok tok[3], out;
static lb_vocab_model models[3];
static lb_merge_ref refs[3];
static lb_merge_config config;
static lb_merge_token tokens[4];
static lb_vocab vocab;
static lb_vocab_rows rows;
static lb_err err;
static u64 n_added;

static void parse(lb_hf_tok *t, const char *text) {
    CHECK_OK(lb_hf_tok_parse(t, lb_str_c(text), "test", &arena, &err));
}

static void start(lb_merge_vocab how, u32 n_models) {
    static const char *const names[] = {"one", "two", "three"};
    for (u32 i = 0; i < 3; i++) {
        refs[i] = (lb_merge_ref){.text = lb_str_c(names[i])};
        parse(&tok[i], i == 0 ? first : i == 1 ? second : third);
        models[i] = (lb_vocab_model){&tok[i], lb_hf_tok_n_all(&tok[i])};
    }
    config = (lb_merge_config){.what = LB_STR("m.yml"),
                               .models = refs,
                               .n_models = n_models,
                               .n_refs = n_models,
                               .base = LB_NO_MODEL,
                               .vocab = how,
                               .tokens = tokens};
    err = (lb_err){0};
    parse(&out, first);
}

static void end(void) {
    for (u32 i = 0; i < 3; i++)
        lb_hf_tok_deinit(&tok[i]);
    lb_hf_tok_deinit(&out);
    lb_arena_reset(&arena);
}

static lb_status extend(void) {
    LB_TRY(lb_vocab_extend(&out, &config, models, &arena, &n_added, &err));
    return lb_vocab_map(&vocab, &out, 0, &config, models, &arena, &err);
}

/* base: slot; UINT32_MAX: none. */
static lb_status make_rows(u32 n, u32 base) {
    lb_vocab_slot slots[3];
    for (u32 i = 0; i < n; i++)
        slots[i] = (lb_vocab_slot){i, i == base, models[i].n_rows};
    return lb_vocab_rows_make(&rows, &vocab, &config, &(lb_vocab_tensor){LB_STR("embed"), slots, n},
                              &arena, &err);
}

static u32 id_of(const char *text) {
    u32 id = 999; /* no token has it */
    (void)lb_hf_tok_id(&out, lb_str_c(text), &id);
    return id;
}

/* What slot s has in the row of a token: candidate * 100 + the row of its model. */
static u32 choice(u32 s, u32 n, const char *text) {
    u32 id = id_of(text), which = rows.which[s] ? (u32)rows.which[s][id] : s;
    if (which >= 2 * n)
        return which * 100;
    u64 *const table = which < n ? rows.table[which] : rows.second[which - n];
    return which * 100 + (table ? (u32)table[id] : id);
}

LB_TEST(join) {
    start(LB_VOCAB_UNION, 3);
    CHECK_OK(extend());
    CHECK_U64(n_added, 3); /* d; e and <x> are added tokens of the second */
    CHECK_U64(id_of("<s>"), 4);
    CHECK_U64(id_of("d"), 5);
    CHECK_U64(id_of("e"), 6);
    CHECK_U64(id_of("<x>"), 7);
    CHECK_U64(vocab.n_ids, 8);
    CHECK_U64(vocab.n_rows, 8);
    CHECK_U64(vocab.n_nowhere, 0);
    CHECK(out.added[1].normalized && !out.added[1].special); /* d: an entry */
    CHECK(out.added[2].special && out.added[2].lstrip);      /* e: as it was there */
    CHECK(out.added[0].special);                             /* <s>: the first one's settings */
    CHECK_OK(make_rows(3, UINT32_MAX));
    CHECK_U64(choice(0, 3, "a"), 0);
    CHECK_U64(choice(1, 3, "a"), 102);
    CHECK_U64(choice(2, 3, "a"), 201);
    CHECK_U64(choice(1, 3, "b"), 1); /* only the first has it */
    CHECK_U64(choice(0, 3, "<x>"), 106);
    CHECK_U64(choice(0, 3, "d"), LB_VOCAB_MEAN(3) * 100);
    CHECK_U64(choice(1, 3, "d"), 101);
    CHECK(rows.count && rows.count[id_of("d")] == 2 && rows.count[id_of("a")] == 1);
    CHECK(rows.part[0][id_of("d")] == 1 && rows.part[1][id_of("d")] == 0);
    CHECK_OK(make_rows(3, 1)); /* with a base: its row in place of the mean */
    CHECK_U64(choice(0, 3, "d"), 101);
    CHECK(!rows.count);
    CHECK_OK(make_rows(1, UINT32_MAX)); /* of one model alone: what it has not is zero */
    CHECK_U64(choice(0, 1, "<x>"), LB_VOCAB_ZERO(1) * 100);
    CHECK(rows.zero);
    end();
}

LB_TEST(of_the_base) {
    start(LB_VOCAB_BASE, 3);
    config.pad_to_multiple_of = 4;
    CHECK_OK(extend());
    CHECK_U64(n_added, 0);
    CHECK(vocab.n_ids == 5 && vocab.n_rows == 8);
    CHECK_OK(make_rows(2, 0));
    CHECK_U64(choice(1, 2, "ab"), 104);
    CHECK_U64(choice(1, 2, "b"), 1);
    CHECK(rows.which[0] && rows.which[0][7] == LB_VOCAB_ZERO(2) && rows.which[0][4] == 0);
    config.pad_to_multiple_of = 5;
    CHECK_OK(extend());
    CHECK_OK(make_rows(1, 0)); /* rows as they are: nothing moves */
    CHECK(!rows.table[0] && !rows.which[0]);
    end();
}

LB_TEST(settings) {
    start(LB_VOCAB_BASE, 3);
    config.n_tokens = 4;
    tokens[0] = (lb_merge_token){
        .token = LB_STR("<new>"), .from = LB_TOKEN_TEXT, .model = 1, .text = LB_STR("<x>")};
    tokens[1] = (lb_merge_token){
        .token = LB_STR("a"), .from = LB_TOKEN_ID, .model = 1, .id = 4, .force = true};
    tokens[2] = (lb_merge_token){.token = LB_STR("b"), .from = LB_TOKEN_ZERO};
    tokens[3] = (lb_merge_token){.token = LB_STR("c"), .from = LB_TOKEN_MODEL, .model = 0};
    CHECK_OK(extend());
    CHECK_U64(n_added, 1);
    CHECK_OK(make_rows(3, 0));
    for (u32 s = 0; s < 3; s++) {
        CHECK_U64(choice(s, 3, "<new>"), 106);
        CHECK_U64(choice(s, 3, "a"), 404); /* beside the second's own row */
        CHECK_U64(choice(s, 3, "b"), s == 0 ? 1 : LB_VOCAB_ZERO(3) * 100);
        CHECK_U64(choice(s, 3, "c"), s == 1 ? 100 : 3);
    }
    tokens[1].id = 7; /* what is not there */
    CHECK_OK(extend());
    CHECK(make_rows(3, 0) == LB_E_FORMAT && strstr(err.msg, "'a'") && strstr(err.msg, "two"));
    tokens[1] = tokens[3];
    tokens[0].text = LB_STR("nothing");
    CHECK_OK(extend());
    CHECK(make_rows(3, 0) == LB_E_FORMAT && strstr(err.msg, "<new>"));
    tokens[0].text = LB_STR("<x>");
    CHECK_OK(extend());
    CHECK(make_rows(1, 0) == LB_E_FORMAT && strstr(err.msg, "missing in two"));
    end();
}

/* Ids beyond the embedding are no tokens; a model without a tokenizer has the first one's. */
LB_TEST(rows_that_are_missing) {
    start(LB_VOCAB_UNION, 3);
    models[1].n_rows = 6;
    models[2].tok = NULL;
    models[2].n_rows = 4;
    CHECK_OK(extend());
    u32 id;
    CHECK(!lb_hf_tok_id(&out, LB_STR("<x>"), &id));
    CHECK_OK(make_rows(3, UINT32_MAX));
    CHECK_U64(choice(2, 3, "c"), 203);
    CHECK_U64(choice(2, 3, "<s>"), LB_VOCAB_MEAN(3) * 100);
    end();
}

LB_TEST(ids_left_out) {
    start(LB_VOCAB_UNION, 2);
    lb_hf_tok_deinit(&out);
    parse(&out, BPE("\"a\":0,\"b\":3,\"ab\":9", "\"a b\"", ""));
    CHECK(extend() == LB_E_UNSUPPORTED); /* the library would give 3 twice */
    lb_hf_tok_deinit(&out);
    config.vocab = LB_VOCAB_BASE;
    parse(&out, BPE("\"a\":0,\"b\":4", "", ""));
    CHECK_OK(extend());
    CHECK(vocab.n_ids == 5 && vocab.n_tokens == 2 && vocab.n_rules == 3);
    CHECK_OK(make_rows(2, UINT32_MAX));
    CHECK(rows.which[1][2] == 0 && rows.table[0][2] == 2); /* the donor's rows, in both */
    end();
}

LB_TEST(the_file) {
    start(LB_VOCAB_UNION, 2);
    lb_str text = LB_STR_NONE;
    lb_hf_tok again;
    CHECK_OK(extend());
    CHECK_OK(lb_hf_tok_text(&out, UINT64_MAX, &arena, &text, &err));
    CHECK_OK(lb_hf_tok_parse(&again, text, "again", &arena, &err));
    CHECK(again.n_vocab == 4 && again.n_merges == 1 && again.n_added == out.n_added);
    for (u64 i = 0; i < again.n_added; i++) {
        const lb_hf_added *a = &again.added[i];
        CHECK_U64(id_of(lb_arena_str(&arena, a->content).ptr), a->id);
        CHECK_U64(a->file_id, a->id);
    }
    size_t at;
    CHECK(lb_str_find(text, LB_STR("\"decoder\":null}"), &at));
    lb_hf_tok_deinit(&again);
    CHECK_OK(lb_hf_tok_text(&tok[0], 2, &arena, &text, &err)); /* ab and its merge go with it */
    CHECK_OK(lb_hf_tok_parse(&again, text, "again", &arena, &err));
    CHECK(again.n_vocab == 2 && again.n_merges == 0 && again.n_added == 0);
    lb_hf_tok_deinit(&again);
    CHECK_OK(lb_hf_tok_parse(&again,
                             LB_STR("{\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"q\":0},"
                                    "\"unk_token\":\"q\"}}"),
                             "w", &arena, &err));
    CHECK_OK(lb_hf_tok_add(&again, &(lb_hf_added){.content = LB_STR("\"<é>\"")}, &arena, &err));
    CHECK_OK(
        lb_hf_tok_text(&again, UINT64_MAX, &arena, &text, &err)); /* a list where there was none */
    lb_hf_tok_deinit(&again);
    CHECK_OK(lb_hf_tok_parse(&again, text, "again", &arena, &err));
    CHECK(again.n_added == 1 && lb_str_eq_c(again.added[0].content, "\"<é>\""));
    lb_hf_tok_deinit(&again);
    end();
}

LB_TEST(small_files) {
    start(LB_VOCAB_UNION, 2);
    lb_str text;
    lb_buf left = {0};
    size_t at;
    CHECK_OK(extend());
    CHECK_OK(lb_tok_edit_config(
        LB_STR("{\"added_tokens_decoder\": {\"9\": {}}, \"bos_token\": \"<s>\", \"pad_token\": "
               "{\"content\": \"<gone>\"}, \"eos_token\": null, "
               "\"additional_special_tokens\": [\"<x>\", \"<gone>\"], \"model_max_length\": 1e30}"),
        "t", &out, &arena, &text, &left, &err));
    CHECK_STR(lb_buf_str(&left), "pad_token");
    CHECK(lb_str_find(text, LB_STR("\"model_max_length\": 1e30"), &at));
    CHECK(lb_str_find(text, LB_STR("\"7\": {"), &at) && !lb_str_find(text, LB_STR("\"9\""), &at));
    CHECK(!lb_str_find(text, LB_STR("gone"), &at) &&
          lb_str_find(text, LB_STR("\"eos_token\""), &at));
    CHECK_OK(lb_tok_edit_added(&out, &arena, &text, &err));
    CHECK(lb_str_find(text, LB_STR("\"<x>\": 7"), &at));
    CHECK(lb_tok_edit_config(LB_STR("[]"), "t", &out, &arena, &text, NULL, &err) == LB_E_FORMAT);
    CHECK(lb_tok_is_file(LB_STR("x.tiktoken")) && !lb_tok_is_file(LB_STR("config.json")));
    CHECK(lb_tok_is_stale(LB_STR("tokenizer.model"), false));
    CHECK(!lb_tok_is_stale(LB_STR("merges.txt"), false) &&
          lb_tok_is_stale(LB_STR("merges.txt"), true));
    lb_buf_deinit(&left);
    end();
}

LB_TEST(templates) {
    lb_str text;
    static const char *const good[] = {"alpaca", "chatml",  "exaone",
                                       "llama3", "mistral", "{{ messages[0]['content'] }}"};
    start(LB_VOCAB_UNION, 1);
    for (u32 i = 0; i < LB_LEN(good); i++) {
        config.chat_template = lb_str_c(good[i]);
        CHECK_OK(lb_merge_template(&config, &text, &err));
        CHECK(text.len >= 20);
    }
    config.chat_template = LB_STR("auto");
    CHECK_OK(lb_merge_template(&config, &text, &err));
    CHECK(!text.ptr);
    config.chat_template = LB_STR("chatlm");
    CHECK(lb_merge_template(&config, &text, &err) == LB_E_FORMAT &&
          strstr(err.msg, "did you mean chatml?"));
    config.chat_template = LB_STR("{{ x }}");
    CHECK(lb_merge_template(&config, &text, &err) == LB_E_FORMAT);
    config.chat_template = LB_STR("a long text that is no template at all");
    CHECK(lb_merge_template(&config, &text, &err) == LB_E_FORMAT);
    end();
}

static bool holds(lb_str text, const char *what) {
    size_t at;
    return lb_str_find(text, lb_str_c(what), &at);
}

LB_TEST(the_config) {
    start(LB_VOCAB_UNION, 1);
    lb_str text, given[] = {LB_STR("{\"vocab_size\": 7, \"bos_token_id\": 1, \"eos_token_id\": 2, "
                                   "\"vision_config\": {\"vocab_size\": 9, "
                                   "\"image_token_id\": 3}, \"text_config\": {\"vocab_size\": 7, "
                                   "\"vocab_size_per_layer_input\": 7, "
                                   "\"tie_word_embeddings\": true}}")};
    lb_merge_part part = {0};
    lb_merge_outline outline = {.parts = &part};
    lb_merge_more more = {
        .n_rows = 11,
        .untied = true,
        .ids_of = LB_STR("{\"bos_token_id\": 5, \"vision_config\": {\"image_token_id\": 6}}")};
    CHECK_OK(lb_merge_config_of(given, &config, &outline, &more, &arena, &text, &err));
    CHECK(holds(text, "{\n  \"vocab_size\": 11,") && holds(text, "    \"vocab_size\": 9"));
    CHECK(holds(text, "\"vocab_size_per_layer_input\": 11") && !holds(text, ": 7"));
    CHECK(holds(text, "\"bos_token_id\": 5") && holds(text, "\"eos_token_id\": null"));
    CHECK(holds(text, "\"image_token_id\": 6") && !holds(text, "\"tie_word_embeddings\": true"));
    given[0] = LB_STR("{\"hidden_size\": 2}");
    CHECK_OK(lb_merge_config_of(given, &config, &outline, &(lb_merge_more){.n_rows = 4}, &arena,
                                &text, &err));
    CHECK(holds(text, "\"vocab_size\": 4"));
    CHECK_OK(lb_merge_config_ids(LB_STR("{\"eos_token_id\": [1, 2], \"top_k\": 3}"),
                                 LB_STR("{\"eos_token_id\": 9}"), "g", &arena, &text, &err));
    CHECK(holds(text, "\"eos_token_id\": 9") && holds(text, "\"top_k\": 3"));
    end();
}

LB_TEST(failing_memory) {
    u32 failed = 0;
    for (u64 n = 1; n < 60; n++) {
        start(LB_VOCAB_UNION, 3);
        lb_mem_fail_at(n);
        lb_status st = extend();
        if (st == LB_OK)
            st = make_rows(3, UINT32_MAX);
        if (st == LB_OK) {
            lb_str text;
            st = lb_hf_tok_text(&out, 3, &arena, &text, &err);
        }
        lb_mem_fail_at(0);
        CHECK(st == LB_OK || st == LB_E_NOMEM);
        failed += st == LB_E_NOMEM;
        end();
        lb_arena_deinit(&arena);
    }
    CHECK(failed > 3);
}

LB_TEST_MAIN("fast")
