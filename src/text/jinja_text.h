/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_text.h: what Python's str does with characters. Pure: views in, views or appended text out.
 * Internal to text/. Unicode data: utf8proc, and a table of Python's for case mappings of several
 * characters (jinja_case_tables.h). */
#ifndef LB_TEXT_JINJA_TEXT_H
#define LB_TEXT_JINJA_TEXT_H

#include "base/base.h"
#include "text/jinja_value.h"

bool lb_jcp_is_space(u32 cp); /* str.isspace: more than Unicode's White_Space */
bool lb_jcp_is_word(u32 cp);  /* \w */
bool lb_jcp_is_line_end(u32 cp);
bool lb_jcp_is_printable(u32 cp);
u32 lb_jdigit(char c); /* of a base up to 36; 99: none */

/* Without the characters of `chars` (ptr NULL: white space) at its ends. */
lb_str lb_jstr_strip(lb_str s, lb_str chars, bool left, bool right);
u32 lb_jstr_count(lb_str s); /* code points */
/* Byte of code point n; len where there are fewer. */
size_t lb_jstr_at(lb_str s, u64 n);
bool lb_jstr_to_i64(lb_str digits, u32 base,
                    i64 *out);   /* no sign; false: no digits, or too large */
double lb_jstr_to_f64(lb_str s); /* a literal that is one */
/* As int(s) and float(s): white space around, sign, underscores. */
typedef enum lb_jnum { LB_JNUM_NONE, LB_JNUM_OK, LB_JNUM_BIG } lb_jnum;
lb_jnum lb_jstr_parse_int(lb_str s, u32 base, i64 *out);
bool lb_jstr_parse_float(lb_str s, double *out);
/* Moves *pos behind the next line; *line without its end. False at the end. */
bool lb_jstr_line(lb_str s, size_t *pos, lb_str *line, lb_str *with_end);

typedef enum lb_jcase {
    LB_JCASE_UPPER,
    LB_JCASE_LOWER,
    LB_JCASE_TITLE,
    LB_JCASE_CAPITALIZE,
    LB_JCASE_SWAP,
    LB_JCASE_FOLD
} lb_jcase;
void lb_jtext_case(lb_jbuf *out, lb_str s, lb_jcase how);

typedef enum lb_jis {
    LB_JIS_ALNUM,
    LB_JIS_ALPHA,
    LB_JIS_ASCII,
    LB_JIS_DECIMAL,
    LB_JIS_DIGIT,
    LB_JIS_IDENTIFIER,
    LB_JIS_LOWER,
    LB_JIS_NUMERIC,
    LB_JIS_PRINTABLE,
    LB_JIS_SPACE,
    LB_JIS_TITLE,
    LB_JIS_UPPER
} lb_jis;
bool lb_jtext_is(lb_str s, lb_jis what);
void lb_jtext_escape(lb_jbuf *out, lb_str s); /* & < > " ' as markupsafe */

#endif
