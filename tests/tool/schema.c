/* SPDX-License-Identifier: Apache-2.0 */
/* schema.c: JSON schemas as grammars, for tests/peers/peer_json_schema.py and the tests of the
 * command line.
 *
 * usage: schema write N SEED <SCHEMA     N random texts of the grammar, one a line (in hexadecimal)
 *        schema accept SCHEMA.json       for each line of standard input "yes" or "no"
 *        schema whole FILE              all of standard input but a last line end: "yes", "begun"
 *                                       (more must come), "no"; FILE.gbnf is a grammar
 * A refusal is printed as "refused MESSAGE". */
#include "text/grammar.h"
#include "text/json_schema.h"
#include <stdio.h>
#include <stdlib.h>

#define TEXT_MAX (1 << 22)

static lb_err err;
static char text[TEXT_MAX];
static u64 seed;

static u32 draw(u32 n) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (u32)((seed >> 33) % n);
}

/* A random walk by bytes: it ends where it may after some, and prefers what closes then. */
static bool write_one(lb_grammar_matcher *m) {
    lb_grammar_state *s;
    char out[4000];
    u32 n = 0;
    bool done = false;
    if (lb_grammar_state_new(&s, m, &err) != LB_OK)
        return false;
    while (n < sizeof out) {
        const u64 *mask;
        u32 list[257], k = 0;
        bool ok;
        if (lb_grammar_mask(s, &mask, &err) != LB_OK)
            break;
        for (u32 i = 0; i < 257; i++)
            if (mask[i / 64] >> i % 64 & 1)
                list[k++] = i;
        if (!k) /* a dead end */
            break;
        u32 pick = list[draw(k)];
        for (u32 i = 0; i < k && n > 60; i++)
            if (strchr("\"}],:", (int)list[i]) && list[i] && draw(2))
                pick = list[i];
        if (list[k - 1] == 256 && (n > 20 || k == 1 || draw(3) == 0))
            pick = 256;
        if (pick == 256) {
            done = true;
            break;
        }
        out[n++] = (char)pick;
        if (lb_grammar_accept_token(s, pick, &ok, &err) != LB_OK || !ok)
            break;
    }
    if (!done)
        printf("%s", n < sizeof out ? "dead " : "long ");
    for (u32 i = 0; i < n; i++)
        printf("%02x", (u8)out[i]);
    printf("\n");
    lb_grammar_state_free(&s);
    return true;
}

static void accept_lines(lb_grammar_matcher *m) {
    static char line[TEXT_MAX];
    lb_grammar_state *s;
    if (lb_grammar_state_new(&s, m, &err) != LB_OK)
        return;
    while (fgets(line, sizeof line, stdin)) {
        bool ok;
        lb_grammar_state_reset(s);
        line[strcspn(line, "\n")] = 0;
        ok = lb_grammar_accept(s, lb_str_c(line), &ok, &err) == LB_OK && ok &&
             lb_grammar_is_complete(s);
        printf("%s\n", ok ? "yes" : "no");
    }
    lb_grammar_state_free(&s);
}

static void accept_whole(lb_grammar_matcher *m) {
    static char all[TEXT_MAX];
    lb_grammar_state *s;
    bool ok;
    size_t n = fread(all, 1, sizeof all, stdin);
    if (n && all[n - 1] == '\n')
        n--;
    if (lb_grammar_state_new(&s, m, &err) != LB_OK)
        return;
    bool good = lb_grammar_accept(s, (lb_str){all, n}, &ok, &err) == LB_OK && ok;
    printf("%s\n", !good ? "no" : lb_grammar_is_complete(s) ? "yes" : "begun");
    lb_grammar_state_free(&s);
}

int main(int argc, char **argv) {
    bool writes = argc == 4 && !strcmp(argv[1], "write");
    FILE *f = writes ? stdin : argc == 3 ? fopen(argv[2], "rb") : NULL;
    lb_arena a = {0};
    lb_buf grammar = {0};
    lb_json *schema;
    lb_grammar *g = NULL;
    lb_token_trie *t = NULL;
    lb_grammar_matcher *m = NULL;
    static u8 bytes[257], flags[257];
    lb_str pieces[257];
    if (!f)
        return 2;
    lb_str in = {text, fread(text, 1, sizeof text, f)};
    for (u32 i = 0; i < 257; i++) {
        bytes[i] = (u8)i;
        pieces[i] = (lb_str){(const char *)&bytes[i], i < 256};
        flags[i] = i == 256 ? LB_PIECE_END : 0;
    }
    lb_status st = LB_OK;
    if (!writes && lb_str_ends(lb_str_c(argv[2]), LB_STR(".gbnf"))) {
        lb_buf_put_str(&grammar, in);
    } else {
        st = lb_json_parse(in, "schema", &a, &schema, &err);
        if (st == LB_OK)
            st = lb_json_schema_grammar(schema, &grammar, &err);
    }
    if (st == LB_OK)
        st = lb_grammar_compile(&g, lb_buf_str(&grammar), NULL, &err);
    if (st == LB_OK)
        st = lb_token_trie_new(&t, pieces, flags, 257, &err);
    if (st == LB_OK)
        st = lb_grammar_matcher_new(&m, g, t, 0, &err);
    if (st != LB_OK) {
        printf("refused %s\n", err.msg);
    } else if (writes) {
        seed = strtoull(argv[3], NULL, 10);
        for (int i = atoi(argv[2]); i > 0; i--)
            write_one(m);
    } else if (strcmp(argv[1], "whole") == 0) {
        accept_whole(m);
    } else {
        accept_lines(m);
    }
    lb_grammar_matcher_free(&m);
    lb_token_trie_free(&t);
    lb_grammar_free(&g);
    lb_buf_deinit(&grammar);
    lb_arena_deinit(&a);
    if (!writes)
        fclose(f);
    return 0;
}
