/* SPDX-License-Identifier: Apache-2.0 */
/* test_constraint.c: grammars over real kinds of vocabularies: texts made of tokens that the masks
 * allow, chosen at random, are texts of the grammar, to the byte; stops, pieces of characters, dead
 * ends. */
#include "base/os.h"
#include "ops/answer.h"
#include "test.h"
#include "text/decode.h"
#include "text/json_schema.h"
#include "tokhelp.h"

static lb_err err;

static const char *const families[] = {"llama3",    "qwen2",    "smollm", "spm_llama",
                                       "spm_gemma", "hf_llama", "gemma4"};

typedef struct vocab {
    lb_arena a;
    lb_source *source;
    lb_encoder *e;
    lb_token_trie *trie;
    u32 n;
} vocab;

static bool open_vocab(vocab *v, const char *family) {
    lb_str rel;
    *v = (vocab){0};
    rel = lb_arena_printf(&v->a, "text/%s", family);
    v->source = tok_source(lb_test_golden(rel.ptr), &err);
    if (!v->source || lb_encoder_open(&v->e, v->source, &err) != LB_OK)
        return false;
    v->n = (u32)lb_encoder_n_vocab(v->e) + 70; /* models have more rows than tokens */
    return lb_token_trie_of(&v->trie, v->e, v->n, &err) == LB_OK;
}

static void close_vocab(vocab *v) {
    lb_token_trie_free(&v->trie);
    lb_encoder_close(&v->e);
    lb_source_close(&v->source);
    lb_arena_deinit(&v->a);
}

static const char *const grammars[] = {
    "root ::= \"yes\" | \"no\" | \" \" [a-z]{2,9} \".\"",
    "root ::= [^x]{0,12} \"x\"",
    "root ::= (\"\xc3\xa9\" | \"\xe2\x82\xac\" | \"\xf0\x9f\x98\x80\"){1,5}",
    "root ::= \"(\" root \")\" | [0-9]",
    "root ::= [ \\n\\t]{0,6} \"  the\" [^\\x00-\\x7f]{1,4} | \"\"",
    "root ::= line{1,4}\nline ::= [A-Z] [a-z ]* \"\\n\"",
};
static const char *const schemas[] = {
    "{}",
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"n\":{\"type\":"
    "\"integer\"}},\"required\":[\"name\",\"n\"]}",
    "{\"type\":\"array\",\"items\":{\"type\":\"number\",\"minimum\":-3,\"maximum\":250}}",
    "{\"enum\":[1,\"\xc3\xa9t\xc3\xa9\",null,{\"a\":[true]}]}",
    "{\"type\":\"string\",\"pattern\":\"^[a-z\xc3\xa4]{2,5}-\\\\d+$\"}",
    "{\"type\":\"string\",\"format\":\"date-time\"}",
    "{\"$ref\":\"#/$defs/t\",\"$defs\":{\"t\":{\"anyOf\":[{\"type\":\"null\"},{\"type\":\"array\","
    "\"items\":{\"$ref\":\"#/$defs/t\"},\"minItems\":1,\"maxItems\":2}]}}}",
    "{\"type\":\"object\",\"additionalProperties\":{\"type\":\"boolean\"}}",
};

static u64 count_of(const u64 *mask, u32 n) {
    u64 count = 0;
    for (u32 i = 0; i < n; i++)
        count += mask[i / 64] >> (i % 64) & 1;
    return count;
}

static u32 pick(const u64 *mask, u32 n, u64 which) {
    for (u32 i = 0; i < n; i++)
        if (mask[i / 64] >> (i % 64) & 1 && !which--)
            return i;
    return 0;
}

typedef struct shown {
    lb_buf text;
    bool bad; /* a piece that is no whole characters */
} shown;

static lb_status show(void *user, lb_str piece, lb_err *e) {
    shown *s = user;
    (void)e;
    s->bad |= !lb_str_is_utf8(piece) || !piece.len;
    lb_buf_put_str(&s->text, piece);
    return LB_OK;
}

/* One text by random tokens; those that close are taken once it is long. False: too long. */
static void walk(const vocab *v, lb_constraint *c, lb_answer *a, lb_buf *ids, bool *done) {
    const u64 *mask;
    bool over = false, stopped;
    *done = false;
    lb_buf_reset(ids);
    for (u32 i = 0; i < 400 && !over; i++) {
        u32 id = 0;
        if (lb_constraint_mask(c, &mask, &err) != LB_OK)
            break;
        const u64 n = count_of(mask, v->n);
        CHECK(n > 0);
        id = pick(mask, v->n, lb_test_rand() % n);
        for (u32 t = 0; t < 24 && i > 20; t++) { /* one that ends or closes, if it can be */
            u32 other = pick(mask, v->n, lb_test_rand() % n);
            lb_str p = lb_constraint_piece(c, other);
            if (lb_encoder_is_end(v->e, other) || (p.len == 1 && strchr("\"}]).x,0", p.ptr[0])))
                id = other;
        }
        if (lb_encoder_is_end(v->e, id)) {
            over = true;
            break;
        }
        CHECK_OK(lb_constraint_accept(c, id, &err));
        lb_buf_put_u32(ids, id);
        CHECK_OK(lb_answer_put(a, id, &stopped, &err));
        CHECK_OK(lb_constraint_is_over(c, &over, &err));
    }
    CHECK_OK(lb_answer_end(a, &stopped, &err));
    *done = over;
}

static void check_text(const vocab *v, lb_grammar_matcher *m, lb_str text, const lb_buf *ids,
                       const char *grammar) {
    lb_grammar_state *s;
    lb_buf decoded = {0};
    bool ok = false;
    CHECK_OK(lb_grammar_state_new(&s, m, &err));
    CHECK_OK(lb_grammar_accept(s, text, &ok, &err));
    if (!ok || !lb_grammar_is_complete(s))
        lb_test_fail(__FILE__, __LINE__, "%s: wrote %.*s", grammar, LB_FMT(text));
    lb_grammar_state_free(&s);
    /* What the tokens decode to: the same but for a first blank. */
    CHECK_OK(lb_decode_ids(v->e, (const u32 *)(const void *)ids->ptr, ids->len / 4, true, &decoded,
                           &err));
    lb_str d = lb_buf_str(&decoded);
    if (!lb_str_eq(d, text) &&
        !(text.len && text.ptr[0] == ' ' && lb_str_eq(d, lb_str_sub(text, 1, text.len))))
        lb_test_fail(__FILE__, __LINE__, "%s: %.*s is decoded as %.*s", grammar, LB_FMT(text),
                     LB_FMT(d));
    lb_buf_deinit(&decoded);
}

static void walks(const vocab *v, lb_str grammar, u32 n, u32 *done) {
    lb_constraint *c = NULL;
    lb_grammar *g = NULL;
    lb_grammar_matcher *m = NULL;
    lb_answer *a = NULL;
    lb_buf ids = {0};
    CHECK_OK(lb_grammar_compile(&g, grammar, NULL, &err));
    CHECK_OK(lb_grammar_matcher_new(&m, g, NULL, 0, &err));
    CHECK_OK(lb_constraint_new(&c, v->e, v->trie, grammar, "g", &err));
    for (u32 i = 0; i < n && c; i++) {
        shown s = {0};
        bool over;
        CHECK_OK(lb_answer_begin(
            &a, &(lb_answer_opts){.encoder = v->e, .constraint = c, .text = show, .user = &s},
            &err));
        walk(v, c, a, &ids, &over);
        lb_buf text = lb_answer_take(a);
        if (over)
            check_text(v, m, lb_buf_str(&text), &ids, grammar.ptr);
        *done += over;
        CHECK(!s.bad && lb_str_eq(lb_buf_str(&s.text), lb_buf_str(&text)));
        lb_buf_deinit(&text);
        lb_buf_deinit(&s.text);
        lb_answer_free(&a);
        lb_constraint_reset(c);
    }
    lb_buf_deinit(&ids);
    lb_constraint_free(&c);
    lb_grammar_matcher_free(&m);
    lb_grammar_free(&g);
}

LB_TEST(random_texts_are_of_the_grammar) {
    for (u32 f = 0; f < LB_LEN(families); f++) {
        vocab v;
        u32 done = 0, n = 12;
        if (!open_vocab(&v, families[f])) {
            lb_test_fail(__FILE__, __LINE__, "%s: %s", families[f], err.msg);
            continue;
        }
        for (u32 i = 0; i < LB_LEN(grammars); i++)
            walks(&v, lb_str_c(grammars[i]), n, &done);
        for (u32 i = 0; i < LB_LEN(schemas); i++) {
            lb_arena a = {0};
            lb_buf g = {0};
            lb_json *schema;
            CHECK_OK(lb_json_parse(lb_str_c(schemas[i]), "s", &a, &schema, &err));
            CHECK_OK(lb_json_schema_grammar(schema, &g, &err));
            lb_buf_put_u8(&g, 0); /* for printf */
            g.len--;
            walks(&v, lb_buf_str(&g), n, &done);
            lb_buf_deinit(&g);
            lb_arena_deinit(&a);
        }
        if (done < n * (LB_LEN(grammars) + LB_LEN(schemas)) / 2)
            lb_test_fail(__FILE__, __LINE__, "%s: only %u texts came to an end", families[f], done);
        close_vocab(&v);
    }
}

LB_TEST(what_is_in_no_text_never_comes) {
    vocab v;
    lb_constraint *c, *other;
    const u64 *mask;
    bool over;
    CHECK(open_vocab(&v, "llama3"));
    CHECK_OK(lb_constraint_new(&c, v.e, v.trie, LB_STR("root ::= [^\\n]*"), "g", &err));
    CHECK_OK(lb_constraint_mask(c, &mask, &err));
    for (u32 i = 0; i < v.n; i++) {
        bool may = mask[i / 64] >> (i % 64) & 1;
        lb_token_kind kind = lb_encoder_token(v.e, i, NULL);
        if (kind == LB_TOKEN_CONTROL || kind == LB_TOKEN_NONE)
            CHECK(may == lb_encoder_is_end(v.e, i));
    }
    /* A clone goes its own way. */
    u32 a = lb_encoder_find(v.e, LB_STR("a"));
    CHECK_OK(lb_constraint_accept(c, a, &err));
    CHECK_OK(lb_constraint_clone(&other, c, &err));
    CHECK_OK(lb_constraint_accept(other, a, &err));
    lb_constraint_free(&c);
    CHECK_OK(lb_constraint_is_over(other, &over, &err));
    CHECK(!over);
    CHECK(lb_constraint_accept(other, lb_encoder_special_id(v.e, "bos_token"), &err) == LB_E_USAGE);
    lb_constraint_free(&other);
    /* The grammar names a token that is no text. */
    CHECK_OK(
        lb_constraint_new(&c, v.e, v.trie, LB_STR("root ::= <|begin_of_text|> \"a\""), "g", &err));
    CHECK_OK(lb_constraint_accept(c, lb_encoder_special_id(v.e, "bos_token"), &err));
    CHECK_OK(lb_constraint_accept(c, a, &err));
    CHECK_OK(lb_constraint_is_over(c, &over, &err));
    CHECK(over);
    lb_constraint_free(&c);
    close_vocab(&v);
}

/* A vocabulary that lacks what a grammar wants. */
LB_TEST(dead_ends_say_so) {
    vocab v;
    lb_constraint *c;
    const u64 *mask;
    lb_token_trie *t;
    CHECK(open_vocab(&v, "llama3"));
    lb_str *pieces = NULL;
    CHECK_OK(lb_token_pieces(v.e, v.n, &v.a, &pieces, &err));
    u32 a = lb_encoder_find(v.e, LB_STR("a")), b = lb_encoder_find(v.e, LB_STR("b"));
    for (u32 i = 0; i < v.n && pieces; i++)
        if (i != a && i != b)
            pieces[i] = LB_STR_NONE;
    CHECK_OK(lb_token_trie_new(&t, pieces, NULL, v.n, &err));
    CHECK(lb_constraint_new(&c, v.e, t, LB_STR("root ::= \"c\""), "g", &err) == LB_E_NOT_FOUND);
    CHECK(strstr(err.msg, "g: no token of the model can begin"));
    CHECK(!c);
    CHECK_OK(lb_constraint_new(&c, v.e, t, LB_STR("root ::= \"ab\" [0-9] | \"b\""), "g", &err));
    CHECK_OK(lb_constraint_accept(c, a, &err));
    CHECK_OK(lb_constraint_accept(c, b, &err));
    CHECK(lb_constraint_mask(c, &mask, &err) == LB_E_NOT_FOUND);
    CHECK(strstr(err.msg, "behind \"ab\""));
    lb_constraint_reset(c);
    CHECK_OK(lb_constraint_mask(c, &mask, &err));
    lb_constraint_free(&c);
    CHECK(lb_constraint_new(&c, v.e, t, LB_STR("root ::= x"), "g", &err) == LB_E_FORMAT);
    CHECK(strstr(err.msg, "g: grammar:1:10"));
    lb_token_trie_free(&t);
    close_vocab(&v);
}

/* ---- texts that stop ---- */

/* What is shown of a text that comes in tokens, with these stops. */
static void check_stop(const vocab *v, const char *text, const char *const *stops, u32 n_stops,
                       const char *want, bool want_stopped) {
    lb_answer *a;
    lb_buf ids = {0};
    lb_str list[4];
    shown s = {0};
    bool stopped = false;
    for (u32 i = 0; i < n_stops; i++)
        list[i] = lb_str_c(stops[i]);
    CHECK_OK(lb_encoder_encode(v->e, lb_str_c(text), false, &ids, &err));
    CHECK_OK(lb_answer_begin(
        &a,
        &(lb_answer_opts){
            .encoder = v->e, .stops = list, .n_stops = n_stops, .text = show, .user = &s},
        &err));
    for (size_t i = 0; i < ids.len / 4 && !stopped; i++)
        CHECK_OK(lb_answer_put(a, lb_load_u32(ids.ptr + 4 * i), &stopped, &err));
    CHECK_OK(lb_answer_end(a, &stopped, &err));
    lb_buf whole = lb_answer_take(a);
    if (stopped != want_stopped || s.bad || !lb_str_eq_c(lb_buf_str(&s.text), want) ||
        !lb_str_eq_c(lb_buf_str(&whole), want))
        lb_test_fail(__FILE__, __LINE__, "%s: shown '%.*s', not '%s'", text,
                     LB_FMT(lb_buf_str(&s.text)), want);
    lb_buf_deinit(&whole);
    lb_buf_deinit(&s.text);
    lb_buf_deinit(&ids);
    lb_answer_free(&a);
}

LB_TEST(no_part_of_a_text_that_stops_is_shown) {
    for (u32 f = 0; f < LB_LEN(families); f++) {
        vocab v;
        CHECK(open_vocab(&v, families[f]));
        check_stop(&v, "one two three", (const char *const[]){"two"}, 1, "one ", true);
        check_stop(&v, "one two three", (const char *const[]){" twoo", "three!"}, 2,
                   "one two three", false);
        check_stop(&v, "aaab", (const char *const[]){"aab"}, 1, "a", true);
        check_stop(&v, "abcabd", (const char *const[]){"abd", "c"}, 2, "ab", true);
        check_stop(&v, "x END", (const char *const[]){"END", " EN"}, 2, "x", true);
        check_stop(&v, "ab", (const char *const[]){"abc"}, 1, "ab", false);
        check_stop(&v, "\xf0\x9f\x98\x80\xf0\x9f\x98\x81!",
                   (const char *const[]){"\xf0\x9f\x98\x81"}, 1, "\xf0\x9f\x98\x80", true);
        check_stop(&v, "nothing", NULL, 0, "nothing", false);
        close_vocab(&v);
    }
}

/* A special token that is asked for is text. */
LB_TEST(special_tokens_that_are_shown) {
    for (u32 f = 0; f < LB_LEN(families); f++) {
        vocab v;
        lb_answer *a;
        lb_buf ids = {0};
        bool stopped;
        CHECK(open_vocab(&v, families[f]));
        u32 special[2] = {LB_NO_ID, LB_NO_ID}, n = 0;
        for (u32 i = 0; i < v.n && n < 2; i++)
            if (lb_encoder_token(v.e, i, NULL) == LB_TOKEN_CONTROL)
                special[n++] = i;
        CHECK(n > 0);
        CHECK_OK(lb_encoder_encode(v.e, LB_STR("a cat"), false, &ids, &err));
        CHECK_OK(lb_answer_begin(
            &a, &(lb_answer_opts){.encoder = v.e, .shown_ids = special, .n_shown_ids = 1}, &err));
        for (u32 round = 0; round < 2; round++) {
            for (size_t i = 0; i < ids.len / 4; i++)
                CHECK_OK(lb_answer_put(a, lb_load_u32(ids.ptr + 4 * i), &stopped, &err));
            CHECK_OK(lb_answer_put(a, special[round && n > 1], &stopped, &err));
        }
        CHECK_OK(lb_answer_end(a, &stopped, &err));
        lb_buf text = lb_answer_take(a), want = {0};
        lb_buf_put_c(&want, "a cat");
        CHECK_OK(lb_encoder_bytes(v.e, special[0], &want, &err));
        lb_buf_put_c(&want, "a cat");
        if (n < 2)
            CHECK_OK(lb_encoder_bytes(v.e, special[0], &want, &err));
        CHECK(lb_str_eq(lb_buf_str(&text), lb_buf_str(&want)));
        lb_buf_deinit(&text);
        lb_buf_deinit(&want);
        lb_buf_deinit(&ids);
        lb_answer_free(&a);
        close_vocab(&v);
    }
}

/* Every text of a few letters against every stop of a few: no way to miss one. */
LB_TEST(all_small_stops) {
    vocab v;
    CHECK(open_vocab(&v, "smollm"));
    for (u32 i = 0; i < 1u << 7; i++)
        for (u32 k = 1; k < 1u << 4; k++) {
            char text[8] = {0}, stop[4] = {0}, want[8];
            u32 n_stop = 0;
            for (u32 b = 0; b < 7; b++)
                text[b] = i >> b & 1 ? 'a' : 'b';
            for (u32 b = k; b > 1; b >>= 1)
                stop[n_stop++] = b & 1 ? 'a' : 'b';
            if (!n_stop)
                continue;
            strcpy(want, text);
            char *at = strstr(want, stop);
            if (at)
                *at = 0;
            check_stop(&v, text, (const char *const[]){stop}, 1, want, at != NULL);
        }
    close_vocab(&v);
}

LB_TEST_MAIN("fast")
