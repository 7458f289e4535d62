/* SPDX-License-Identifier: Apache-2.0 */
/* regex.h: the regular expressions of tokenizer.json (Oniguruma's Ruby dialect) run by PCRE2.
 *
 * The dialects differ in a few places, which are rewritten: \s \S \w \W \b \B and \h (Unicode's
 * properties as Oniguruma defines them), (?m) (PCRE2's s), ^ and $ (always line anchors). What
 * cannot be rewritten (&& in a class, a property PCRE2 does not know) is LB_E_UNSUPPORTED by name.
 * Compiled once (to machine code where PCRE2 can), then read-only and shared by threads; matching
 * is bounded (steps, depth, memory). */
#ifndef LB_TEXT_REGEX_H
#define LB_TEXT_REGEX_H

#include "base/base.h"
#include "base/mem.h"

typedef struct lb_regex lb_regex;

/* literal: the pattern is plain text. */
lb_status lb_regex_new(lb_regex **out, lb_str pattern, bool literal, lb_err *err);
void lb_regex_free(lb_regex **re);

/* Iterates over the matches of a valid UTF-8 text, as Oniguruma's find_iter: an empty match is not
 * taken right behind the last one. */
typedef struct lb_regex_iter {
    const lb_regex *re;
    lb_str text;
    size_t next, last_end;
    bool any, done, borrowed;
    void *data; /* of PCRE2 */
} lb_regex_iter;

lb_status lb_regex_begin(lb_regex_iter *it, const lb_regex *re, lb_str text, lb_err *err);
/* The same with memory that outlives the iterator: *data, at first NULL, is made once for a regex
 * and serves one iterator after the other. */
lb_status lb_regex_begin_in(lb_regex_iter *it, const lb_regex *re, lb_str text, void **data,
                            lb_err *err);
void lb_regex_data_free(void *data); /* NULL is fine */
/* *found = false: no further match. LB_E_LIMIT: the pattern explodes on this text. */
lb_status lb_regex_next(lb_regex_iter *it, size_t *from, size_t *to, bool *found, lb_err *err);
void lb_regex_end(lb_regex_iter *it);
/* Appends the text with `with` in the place of each match. It stops looking for matches when out is
 * longer than max; on an error too what is left of the text is appended as it is. */
lb_status lb_regex_replace(const lb_regex *re, lb_str text, lb_str with, size_t max, lb_buf *out,
                           lb_err *err);

/* The rewriting alone (tests, the peers' check of the tables). */
lb_status lb_regex_translate(lb_str pattern, lb_buf *out, lb_err *err);

#endif
