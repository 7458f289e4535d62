/* SPDX-License-Identifier: Apache-2.0 */
/* json.h: one bounded, non-recursive pull reader; a tree on top for configs; a writer.
 *
 * Accepts what Python's json reads: NaN, Infinity, -Infinity, lone surrogates in \u escapes (kept
 * as WTF-8: three bytes), integers of any size. Refuses duplicate keys, invalid UTF-8, a byte-order
 * mark, raw control bytes in strings, text after the value, and nesting deeper than LB_JSON_DEPTH.
 * Numbers keep their text as written, so that a config goes through unchanged. */
#ifndef LB_IO_JSON_H
#define LB_IO_JSON_H

#include "base/base.h"
#include "base/mem.h"

#define LB_JSON_DEPTH 64

/* ---- pull reader: no allocation; works on the caller's bytes ---- */

typedef enum lb_json_tok {
    LB_JSON_END,
    LB_JSON_OBJECT,
    LB_JSON_OBJECT_END,
    LB_JSON_ARRAY,
    LB_JSON_ARRAY_END,
    LB_JSON_KEY,
    LB_JSON_STRING,
    LB_JSON_NUMBER,
    LB_JSON_TRUE,
    LB_JSON_FALSE,
    LB_JSON_NULL
} lb_json_tok;

typedef struct lb_json_reader {
    const char *ptr;
    size_t len, pos;
    u64 off_base;  /* added to error offsets: where the text stands in its file */
    u64 line_base; /* lines before it, for messages */
    u32 depth;
    u64 is_object; /* bit d: level d is an object */
    u8 state;
    lb_str raw; /* KEY, STRING: bytes between the quotes, escapes not decoded; NUMBER: its text */
    bool has_escape; /* KEY, STRING */
    bool starved;    /* the last error was that the text ends: more of it may mend that */
} lb_json_reader;

void lb_json_begin(lb_json_reader *r, lb_str text);
/* Next token; after the value and trailing white space: LB_JSON_END. Does not detect duplicate
 * keys. */
lb_status lb_json_next(lb_json_reader *r, lb_json_tok *tok, lb_err *err);
/* Skips the value that comes next (whole object or array). */
lb_status lb_json_skip(lb_json_reader *r, lb_err *err);
/* Decodes raw's escapes into the arena (or returns raw itself when it has none). */
lb_status lb_json_string(const lb_json_reader *r, lb_arena *perm, lb_str *out, lb_err *err);
/* A number token as an unsigned integer: plain digits that fit; else LB_E_FORMAT. */
lb_status lb_json_u64(const lb_json_reader *r, u64 *out, lb_err *err);

/* ---- tree: order of keys and text of numbers as written ---- */

typedef enum lb_json_type {
    LB_JNULL,
    LB_JBOOL,
    LB_JNUMBER,
    LB_JSTRING,
    LB_JARRAY,
    LB_JOBJECT
} lb_json_type;

typedef struct lb_json lb_json;
struct lb_json {
    lb_json_type type;
    bool truth : 1; /* LB_JBOOL */
    u32 line : 31;  /* where it stands in a YAML text, from 1; 0: unknown */
    lb_str key;     /* decoded; of a member of an object */
    lb_str text;    /* LB_JSTRING: decoded; LB_JNUMBER: as written */
    lb_json *first; /* LB_JARRAY, LB_JOBJECT: children in order */
    lb_json *last;
    lb_json *next; /* sibling */
    u64 n;         /* children */
};

/* Parses a whole text, which must live as long as the tree: strings without escapes and numbers are
 * views of it. perm->max_bytes (if set) bounds the memory. what names the text in errors. */
lb_status lb_json_parse(lb_str text, const char *what, lb_arena *perm, lb_json **out, lb_err *err);
/* All getters accept NULL and a value of another type: they say "absent". */
lb_json *lb_json_get(const lb_json *object, const char *key);
lb_json *lb_json_get_str(const lb_json *object, lb_str key);
lb_json *lb_json_path(const lb_json *object, const char *dotted); /* "rope_scaling.factor" */
bool lb_json_as_str(const lb_json *v, lb_str *out);
/* Integers, and floats with an integer value (1e3, 2.0). */
bool lb_json_as_u64(const lb_json *v, u64 *out);
bool lb_json_as_i64(const lb_json *v, i64 *out);
/* Also NaN, Infinity, {"__float__": "Infinity"}. */
bool lb_json_as_f64(const lb_json *v, double *out);
bool lb_json_as_bool(const lb_json *v, bool *out);
bool lb_json_is_int(const lb_json *v); /* written as an integer (no dot, no exponent) */

/* Building: all in the arena; NULL when out of memory (setters accept NULL and pass it on). */
lb_json *lb_json_new_object(lb_arena *perm);
lb_json *lb_json_new_array(lb_arena *perm);
lb_json *lb_json_new_str(lb_arena *perm, lb_str s);
lb_json *lb_json_new_i64(lb_arena *perm, i64 v);
lb_json *lb_json_new_u64(lb_arena *perm, u64 v);
/* Text as Python's repr prints it: 1e-05, 10000.0. */
lb_json *lb_json_new_f64(lb_arena *perm, double v);
lb_json *lb_json_new_bool(lb_arena *perm, bool v);
lb_json *lb_json_new_null(lb_arena *perm);
lb_json *lb_json_copy(lb_arena *perm, const lb_json *v); /* deep */
/* Replaces a member in place or appends it. False when out of memory. A value has one parent: to
 * put it in a second place, copy it. Trees are at most 2 x LB_JSON_DEPTH deep (asserted). */
bool lb_json_set(lb_arena *perm, lb_json *object, const char *key, lb_json *value);
bool lb_json_push(lb_json *array, lb_json *value);
void lb_json_remove(lb_json *object, const char *key);
void lb_json_sort_keys(lb_json *v); /* bytewise, recursive */

/* ---- writing ---- */

typedef struct lb_json_style {
    u32 indent;   /* 0: one line, Python's separators ", " and ": "; else spaces a level */
    bool compact; /* "," and ":" (indent 0 only) */
    bool ascii;   /* escape non-ASCII as \u and four digits (Python's ensure_ascii) */
    bool strict;  /* Python's words for what is no finite number become null and 1e999 */
} lb_json_style;

/* Exactly as Python's json.dumps writes the same tree with that style. */
void lb_json_write(lb_buf *out, const lb_json *v, lb_json_style style);
/* As a small file: indent 2, and a line end. In the arena. */
lb_status lb_json_file(const lb_json *v, lb_arena *perm, lb_str *out, lb_err *err);
void lb_json_write_str(lb_buf *out, lb_str s, bool ascii); /* with quotes */
void lb_json_write_f64(lb_buf *out, double v); /* shortest text that reads back, as repr */
/* The same for readers that are not Python: NaN is null, infinity 1e999. */
void lb_json_write_number(lb_buf *out, double v);

#endif
