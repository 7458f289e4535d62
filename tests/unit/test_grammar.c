/* SPDX-License-Identifier: Apache-2.0 */
/* GBNF: what grammars accept, what is refused and where, masks against each token tried by itself.
 */
#include "test.h"
#include "text/grammar.h"
#include <stdio.h>
#include <stdlib.h>

static lb_err err;

typedef struct machine {
    lb_grammar *g;
    lb_token_trie *t;
    lb_grammar_matcher *m;
    lb_grammar_state *s;
} machine;

static lb_status open_machine(machine *x, const char *text, lb_token_trie *t, u64 memory) {
    *x = (machine){0};
    LB_TRY(lb_grammar_compile(&x->g, lb_str_c(text), NULL, &err));
    x->t = t;
    LB_TRY(lb_grammar_matcher_new(&x->m, x->g, t, memory, &err));
    return lb_grammar_state_new(&x->s, x->m, &err);
}

static void close_machine(machine *x) {
    lb_grammar_state_free(&x->s);
    lb_grammar_matcher_free(&x->m);
    lb_token_trie_free(&x->t);
    lb_grammar_free(&x->g);
}

/* Whether the whole text is a sentence; cut in two at each place in turn, which must not matter. */
static bool matches(machine *x, lb_str text) {
    bool first = false;
    for (size_t cut = 0; cut <= text.len; cut++) {
        bool ok;
        lb_grammar_state_reset(x->s);
        lb_status st = lb_grammar_accept(x->s, lb_str_sub(text, 0, cut), &ok, &err);
        if (st == LB_OK && ok)
            st = lb_grammar_accept(x->s, lb_str_sub(text, cut, text.len), &ok, &err);
        LB_ASSERT(st == LB_OK);
        ok = ok && lb_grammar_is_complete(x->s);
        if (cut)
            LB_ASSERT(ok == first);
        first = ok;
    }
    return first;
}

#define JSON                                                                                     \
    "root ::= object\n"                                                                          \
    "value ::= object | array | string | number | (\"true\" | \"false\" | \"null\") ws\n"        \
    "object ::= \"{\" ws (string \":\" ws value (\",\" ws string \":\" ws value)*)? \"}\" ws\n"  \
    "array ::= \"[\" ws (value (\",\" ws value)*)? \"]\" ws\n"                                   \
    "string ::= \"\\\"\" ([^\"\\\\\\x7F\\x00-\\x1F] | \"\\\\\" ([\"\\\\bfnrt] | \"u\" "          \
    "[0-9a-fA-F]{4}))* \"\\\"\" ws\n"                                                            \
    "number ::= (\"-\"? ([0-9] | [1-9] [0-9]{0,15})) (\".\" [0-9]+)? ([eE] [-+]? [0-9]{1,15})? " \
    "ws\n"                                                                                       \
    "ws ::= | \" \" | \"\\n\" [ \\t]{0,20}\n"

static const struct {
    const char *grammar, *yes[8], *no[8];
} cases[] = {
    {"root ::= \"a\"", {"a"}, {"", "b", "aa"}},
    {"root ::= \"ab\"*", {"", "ab", "abab"}, {"a", "aba", "abb"}},
    {"root ::= [a-c]+ # comment\n", {"a", "abc"}, {"", "d"}},
    {"root ::= \"x\"?\n", {"", "x"}, {"xx"}},
    {"root ::= \"x\"{2}", {"xx"}, {"x", "xxx"}},
    {"root ::= \"x\"{2,}", {"xx", "xxxxx"}, {"", "x"}},
    {"root ::= \"x\"{ 0 , 2 } \"y\"", {"y", "xy", "xxy"}, {"xxxy"}},
    {"root ::= \"x\"{0,0} \"y\"", {"y"}, {"xy"}},
    {"root ::= (\"a\" | \"b\"\n | \"c\") d\nd ::=\n \"d\"", {"ad", "bd", "cd"}, {"d", "ab"}},
    {"root ::= [^a-z]", {"A", "\xc3\xa9", "\xf0\x9f\x98\x80"}, {"a", "", "AA", "\xc3"}},
    {"root ::= [\\x41\\u00e9\\U0001F600]",
     {"A", "\xc3\xa9", "\xf0\x9f\x98\x80"},
     {"B", "\xc3\xa8"}},
    {"root ::= [\xc3\xa4-\xc3\xbc]+", {"\xc3\xa4", "\xc3\xb6\xc3\xbc"}, {"\xc3\xa3", "\xc3\xbd"}},
    {"root ::= [\\u0080-\\uFFFF]",
     {"\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xef\xbf\xbf"},
     {"\x7f", "\xf0\x90\x80\x80", "\xe0\x9f\xbf", "\xc1\x80"}},
    {"root ::= .", {"a", "\n", "\xe2\x82\xac"}, {"", "ab", "\xff"}},
    {"root ::= [-a\\]\\\\]+ [a-]", {"-a", "]\\-"}, {"b-"}},
    {"root ::= \"\\t\\n\\\"\"", {"\t\n\""}, {"t"}},
    {"root ::= [] \"a\" [^]", {"a"}, {""}},
    {"root ::= (\"a\"?)* \"b\"", {"b", "aaab"}, {"a"}},
    {"root ::= ((\"a\"*)*)+", {"", "aaa"}, {"b"}},
    {"root ::= \"(\" root \")\" | \"\"", {"", "()", "((()))"}, {"(", "())"}},
    {"root ::= \"a\" root \"a\" | \"b\" root \"b\" | \"a\" | \"b\"",
     {"aba", "abbba"},
     {"ab", "aa"}},
    {"root ::= \"x\"\nroot ::= \"y\"", {"y"}, {"x"}},
    {"root ::= \"a\"\r\nb ::= root", {"a"}, {"b"}},
    {"expr ::= term (\"+\" term)*\nterm ::= [0-9]+ | \"(\" expr \")\"\nroot ::= expr \"=\"",
     {"1=", "1+(2+3)="},
     {"1+=", "(1="}},
    {JSON,
     {"{}", "{\"a\": [1, 2.5e3, {\"b\": null}]}", "{\"\\u00e9\": \"\xc3\xa9\"}"},
     {"", "[]", "{\"a\"}", "{\"a\": 01}", "{\"a\": \"\n\"}", "{} x"}},
    {"root ::= [A-Z]{0,9} [0-9]{3}", {"123", "ABCDEFGHI123"}, {"ABCDEFGHIJ123"}},
    {"root ::= \"a\"{0,3000}", {"", "aaaaaaaa"}, {"b"}},
    /* Surrogates are no characters. */
    {"root ::= [^a]",
     {"\xed\x9f\xbf", "\xee\x80\x80", "\xf4\x8f\xbf\xbf"},
     {"\xed\xa0\x80", "\xed\xbf\xbf", "\xf4\x90\x80\x80"}},
    {"root ::= [\\uD800-\\uE000] | .", {"\xee\x80\x80", "x"}, {"\xed\xaf\x80"}},
    /* An alternative that never ends is none. */
    {"root ::= \"a\" x | \"b\" | | \"c\" [\\uD800-\\uDFFF]\nx ::= \"x\" x",
     {"b", ""},
     {"a", "ax", "c"}},
    {"root ::= \"a\" (\"b\" x)*\nx ::= \"x\" x | \"y\" x", {"a"}, {"ab"}},
};

LB_TEST(sentences) {
    for (u32 i = 0; i < LB_LEN(cases); i++) {
        machine x;
        CHECK_OK(open_machine(&x, cases[i].grammar, NULL, 0));
        for (u32 j = 0; j < 8 && cases[i].yes[j]; j++)
            if (!matches(&x, lb_str_c(cases[i].yes[j])))
                lb_test_fail(__FILE__, __LINE__, "%s: not %s", cases[i].grammar, cases[i].yes[j]);
        for (u32 j = 0; j < 8 && cases[i].no[j]; j++)
            if (matches(&x, lb_str_c(cases[i].no[j])))
                lb_test_fail(__FILE__, __LINE__, "%s: takes %s", cases[i].grammar, cases[i].no[j]);
        close_machine(&x);
    }
}

static const struct {
    const char *grammar;
    lb_status status;
    const char *message;
} refused[] = {
    {"", LB_E_FORMAT, "no rule \"root\""},
    {"root = \"a\"", LB_E_FORMAT, "1:6: \"::=\" is missing"},
    {"root ::= \"a", LB_E_FORMAT, "1:10: the literal does not end"},
    {"root ::= [a", LB_E_FORMAT, "1:10: the class does not end"},
    {"root ::= [a-", LB_E_FORMAT, "does not end"},
    {"root ::= (\"a\"", LB_E_FORMAT, "\")\" is missing"},
    {"root ::= \"a\")", LB_E_FORMAT, "1:13: a rule ends here"},
    {"root ::= *", LB_E_FORMAT, "1:10: nothing stands before"},
    {"root ::= \"\"+", LB_E_FORMAT, "nothing stands before"},
    {"root ::= \"a\"{,2}", LB_E_FORMAT, "a number is missing"},
    {"root ::= \"a\"{2,1}", LB_E_FORMAT, "the second number is smaller"},
    {"root ::= \"a\"{1", LB_E_FORMAT, "\"}\" is missing"},
    {"root ::= \"\\q\"", LB_E_FORMAT, "1:11: unknown escape"},
    {"root ::= \"\\x4\"", LB_E_FORMAT, "needs 2 hexadecimal digits"},
    {"root ::= \"a\"\n\nroot2 ::= nothing", LB_E_FORMAT, "3:11: the rule \"nothing\" is not"},
    {"root ::= <a", LB_E_FORMAT, "\">\" is missing"},
    {"root ::= <think>", LB_E_UNSUPPORTED, "needs a vocabulary"},
    {"root ::= <[12>", LB_E_FORMAT, "\"]>\" is missing"},
    {"root ::= \"\xff\"", LB_E_FORMAT, "not UTF-8"},
    {"root ::= root \"a\" | \"a\"", LB_E_UNSUPPORTED, "left recursion: the rule \"root\""},
    {"root ::= root | \"a\"", LB_E_UNSUPPORTED, "left recursion"},
    {"root ::= x\nx ::= y \"a\" | \"b\"\ny ::= x \"c\" | \"d\"", LB_E_UNSUPPORTED,
     "left recursion"},
    {"root ::= e x \"a\" | \"b\"\nx ::= root\ne ::= \"z\"?", LB_E_UNSUPPORTED, "left recursion"},
    {"root ::= \"a\" root", LB_E_FORMAT, "the rule \"root\" has no text that ends"},
    {"root ::= x \"a\"\nx ::= \"b\" y\ny ::= \"c\" x", LB_E_FORMAT, "no text that ends"},
    {"root ::= \"a\"{1000000}", LB_E_LIMIT, "more than 100000"},
    {"root ::= \"a\"{99999999999999999999}", LB_E_LIMIT, "more than 100000"},
    {"root ::= ((\"a\"{90000} \"b\"){90000}){90000} (\"c\" \"d\"){0,99999}{0,99999}{0,99999} "
     "(\"c\" \"d\"){0,99999}{0,99999}{0,99999}(\"c\" \"d\"){0,99999}{0,99999}{0,99999}",
     LB_E_LIMIT, "elements"},
};

LB_TEST(refused_with_a_place) {
    for (u32 i = 0; i < LB_LEN(refused); i++) {
        lb_grammar *g;
        lb_status st = lb_grammar_compile(&g, lb_str_c(refused[i].grammar), NULL, &err);
        if (st != refused[i].status || !strstr(err.msg, refused[i].message) || g)
            lb_test_fail(__FILE__, __LINE__, "%s: %s: %s", refused[i].grammar, lb_status_text(st),
                         st ? err.msg : "");
        lb_grammar_free(&g);
    }
    char deep[1200] = "root ::= ";
    memset(deep + 9, '(', 1000);
    deep[1009] = 0;
    lb_grammar *g;
    CHECK(lb_grammar_compile(&g, lb_str_c(deep), NULL, &err) == LB_E_LIMIT);
    CHECK(strstr(err.msg, "nested more than"));
}

/* ---- masks ---- */

static lb_str pieces[3000];
static u8 flags[3000];
static char letters[3000][8];

static lb_token_trie *make_trie(u32 n) {
    static const char alphabet[] = "ab()[]{}\",:0123 \n\\u.-e\xc3\xa9\xe2\x82\xac\xf0";
    lb_token_trie *t = NULL;
    for (u32 i = 0; i < n; i++) {
        u32 len = (u32)lb_test_rand_below(4) + 1;
        flags[i] = 0;
        for (u32 j = 0; j < len; j++)
            letters[i][j] = alphabet[lb_test_rand_below(sizeof alphabet - 1)];
        pieces[i] = (lb_str){letters[i], len};
        if (i == 3 || i == 7)
            flags[i] = LB_PIECE_END;
        if (i == 5 || i == 11)
            flags[i] = LB_PIECE_HIDDEN;
    }
    pieces[13].len = 0;
    LB_ASSERT(lb_token_trie_new(&t, pieces, flags, n, &err) == LB_OK);
    return t;
}

/* Walks through the grammar by admissible tokens; at each place the mask is what trying says. */
static bool walk(machine *x, u32 n, u32 steps) {
    for (u32 step = 0; step < steps; step++) {
        const u64 *mask;
        u32 choice = 0, n_ok = 0;
        static u64 copy[64];
        if (lb_grammar_mask(x->s, &mask, &err) != LB_OK)
            return false;
        memcpy(copy, mask, (n / 64 + 1) * sizeof *copy);
        for (u32 i = 0; i < n; i++) {
            lb_grammar_state *c = NULL;
            bool ok, again = false, text = !flags[i] && pieces[i].len;
            if (lb_grammar_state_clone(&c, x->s, &err) != LB_OK ||
                lb_grammar_accept_token(c, i, &ok, &err) != LB_OK)
                return false;
            lb_grammar_state_free(&c);
            if (text) {
                if (lb_grammar_state_clone(&c, x->s, &err) != LB_OK ||
                    lb_grammar_accept(c, pieces[i], &again, &err) != LB_OK)
                    return false;
                lb_grammar_state_free(&c);
            } else if (flags[i] & LB_PIECE_END) {
                again = lb_grammar_is_complete(x->s);
            }
            if (ok != (copy[i / 64] >> i % 64 & 1) || (!ok && again))
                return false;
            if (ok && !(flags[i] & LB_PIECE_END) && lb_test_rand_below(++n_ok) == 0)
                choice = i;
        }
        if (!n_ok)
            return true;
        bool ok;
        if (lb_grammar_accept_token(x->s, choice, &ok, &err) != LB_OK || !ok)
            return false;
    }
    return true;
}

LB_TEST(masks_are_what_tokens_say) {
    static const char *const more[] = {
        JSON, "root ::= <[5]> \"a\"* <[11]> | !<[2]> <[13]>* .+",
        "root ::= [^\"]* \"\\\"\" root | \"\"",
        "root ::= [\xc3\xa9\xe2\x82\xac]+ | [\\U0001F600-\\U0001F6FF]*"};
    for (u32 i = 0; i < LB_LEN(cases) + LB_LEN(more); i++) {
        machine x;
        u32 n = 500 + (u32)lb_test_rand_below(500);
        const char *g = i < LB_LEN(cases) ? cases[i].grammar : more[i - LB_LEN(cases)];
        CHECK_OK(open_machine(&x, g, make_trie(n), i % 3 ? 0 : 300000));
        for (u32 turn = 0; turn < 4; turn++) {
            lb_grammar_state_reset(x.s);
            if (!walk(&x, n, 12))
                lb_test_fail(__FILE__, __LINE__, "%s: the mask differs, or %s", g, err.msg);
        }
        close_machine(&x);
    }
}

LB_TEST(bounded) {
    machine x;
    bool ok = true;
    lb_status st = LB_OK;
    /* Stacks that grow with the text, in a small memory. */
    CHECK_OK(open_machine(&x, "root ::= \"(\" root \")\" | \"x\"", NULL,
                          2 * LB_MIB / lb_test_stride(8)));
    for (u32 i = 0; i < 1000000 && st == LB_OK && ok; i++)
        st = lb_grammar_accept(x.s, LB_STR("("), &ok, &err);
    CHECK(st == LB_E_LIMIT && strstr(err.msg, "nests too deep"));
    close_machine(&x);
    /* A repetition goes on for ever in bounded memory. */
    CHECK_OK(
        open_machine(&x, "root ::= (\"ab\" | [c-f]{2,5} | \"(\" [a-z]* \")\")+", NULL, LB_MIB));
    u64 before = lb_mem_used();
    for (u64 i = 0; i < lb_test_cases(100000); i++) {
        CHECK_OK(lb_grammar_accept(x.s, LB_STR("abccc(qqq)"), &ok, &err));
        CHECK(ok);
    }
    CHECK(lb_mem_used() < before + 4 * LB_MIB);
    close_machine(&x);
    /* Very many ways to read the same text: a set of places, not of ways. */
    CHECK_OK(
        open_machine(&x, "root ::= a{0,50} a{0,50}\na ::= \"x\"{0,30} | \"xx\" \"x\"*", NULL, 0));
    for (u32 i = 0; i < 200; i++)
        CHECK_OK(lb_grammar_accept(x.s, LB_STR("x"), &ok, &err));
    CHECK(ok);
    close_machine(&x);
}

LB_TEST(a_refusal_changes_nothing) {
    machine x;
    bool ok;
    CHECK_OK(open_machine(&x, "root ::= \"abc\" [d-f]", NULL, 0));
    CHECK_OK(lb_grammar_accept(x.s, LB_STR("ab"), &ok, &err));
    CHECK(ok);
    CHECK_OK(lb_grammar_accept(x.s, LB_STR("cx"), &ok, &err));
    CHECK(!ok);
    CHECK_OK(lb_grammar_accept(x.s, LB_STR("cf"), &ok, &err));
    CHECK(ok && lb_grammar_is_complete(x.s));
    close_machine(&x);
}

LB_TEST_MAIN("fast")
