/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_grammar.c: GBNF on any bytes; what stands behind the first zero byte is matched.
 *
 * Checked: no crash, bounded memory and time; a text in one piece and byte by byte meets the same
 * fate; the mask of three tokens is what trying them says. */
#include "text/grammar.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static void check_mask(lb_grammar_state *s) {
    const u64 *mask;
    if (lb_grammar_mask(s, &mask, NULL) != LB_OK)
        return;
    const u64 bits = mask[0];
    for (u32 i = 0; i < 4; i++) {
        lb_grammar_state *c = NULL;
        bool ok;
        if (lb_grammar_state_clone(&c, s, NULL) != LB_OK)
            return;
        if (lb_grammar_accept_token(c, i, &ok, NULL) == LB_OK)
            LB_ASSERT(ok == (bits >> i & 1));
        lb_grammar_state_free(&c);
    }
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
    static const lb_str pieces[] = {{"a", 1}, {"\xc3", 1}, {"b\"1", 3}, {"", 0}};
    static const u8 flags[] = {0, 0, 0, LB_PIECE_END};
    const u8 *zero = size ? memchr(data, 0, size) : NULL;
    const size_t len = zero ? (size_t)(zero - data) : size;
    lb_str text = {zero ? (const char *)zero + 1 : NULL, zero ? size - len - 1 : 0};
    lb_grammar *g;
    lb_token_trie *t = NULL;
    lb_grammar_matcher *m = NULL;
    lb_grammar_state *whole = NULL, *bytes = NULL;
    bool ok, one = true;
    if (lb_grammar_compile(&g, (lb_str){(const char *)data, len}, NULL, NULL) != LB_OK)
        return 0;
    if (lb_token_trie_new(&t, pieces, flags, 4, NULL) != LB_OK ||
        lb_grammar_matcher_new(&m, g, t, LB_MIB, NULL) != LB_OK ||
        lb_grammar_state_new(&whole, m, NULL) != LB_OK ||
        lb_grammar_state_new(&bytes, m, NULL) != LB_OK)
        goto done;
    check_mask(whole);
    lb_status st = lb_grammar_accept(whole, text, &ok, NULL), st_one = LB_OK;
    for (size_t i = 0; i < text.len && one && st_one == LB_OK; i++)
        st_one = lb_grammar_accept(bytes, lb_str_sub(text, i, i + 1), &one, NULL);
    if (st == LB_OK && st_one == LB_OK) {
        LB_ASSERT(ok == one);
        if (ok)
            LB_ASSERT(lb_grammar_is_complete(whole) == lb_grammar_is_complete(bytes));
    }
    check_mask(bytes);
done:
    lb_grammar_state_free(&whole);
    lb_grammar_state_free(&bytes);
    lb_grammar_matcher_free(&m);
    lb_token_trie_free(&t);
    lb_grammar_free(&g);
    return 0;
}
