/* SPDX-License-Identifier: Apache-2.0 */
/* json_schema_internal.h: what the files of json_schema.h share.
 *
 * A rule of the grammar is made for an item: a set of schemas that must all hold (allOf and $ref
 * are opened up). Items are made from a list and found again by what they consist of, so that
 * recursive schemas become recursive rules and nothing here recurses. */
#ifndef LB_TEXT_JSON_SCHEMA_INTERNAL_H
#define LB_TEXT_JSON_SCHEMA_INTERNAL_H

#include "text/json_schema.h"

#define LB_SCHEMA_RULES_MAX 20000
#define LB_SCHEMA_PARTS_MAX 256 /* schemas that hold for one value */
#define LB_SCHEMA_TEXT_MAX (16 * LB_MIB)

/* One schema; any: the alternatives of its anyOf and oneOf that were taken already (bits). */
#define LB_SCHEMA_ANY_OF 1u
#define LB_SCHEMA_ONE_OF 2u
typedef struct lb_spart {
    const lb_json *node;
    u64 taken;
} lb_spart;

typedef struct lb_sitem {
    lb_spart parts[LB_SCHEMA_PARTS_MAX];
    u32 up[LB_SCHEMA_PARTS_MAX]; /* the part that refers to it; none: ~0 */
    u32 n;
    bool never; /* a schema of `false` is among them */
} lb_sitem;

typedef struct lb_sjob {
    lb_spart *parts;
    u32 *up;
    u32 n;
    lb_str where; /* JSON pointer */
} lb_sjob;

typedef struct lb_schema {
    const lb_json *root;
    lb_arena arena;
    lb_map known; /* parts -> job */
    lb_buf jobs;  /* of lb_sjob: job i is rule "s<i>" */
    lb_buf *out;
    lb_buf after; /* rules that the one under way refers to */
    lb_str where; /* of the job under way */
    lb_err *err;
    lb_sitem item;
    u32 n_extra; /* rules beside those of jobs: "x<i>" */
} lb_schema;

enum {
    LB_ST_NULL = 1,
    LB_ST_BOOLEAN = 2,
    LB_ST_INTEGER = 4,
    LB_ST_NUMBER = 8, /* that are not integers, too */
    LB_ST_STRING = 16,
    LB_ST_ARRAY = 32,
    LB_ST_OBJECT = 64,
    LB_ST_ALL = 127
};

lb_status lb_schema_fail(lb_schema *s, lb_status code, const char *fmt, ...) LB_PRINTF(3, 4);
/* The rule of an item; `more` of the pointer for errors. */
lb_status lb_schema_rule(lb_schema *s, const lb_sitem *item, const char *more, lb_str name,
                         u32 *out);
/* Errors are of this place from now on: put s->where back behind it. */
lb_status lb_schema_enter(lb_schema *s, const char *more, lb_str name);
/* A schema joins an item: $ref and allOf are opened. from: the part of which it is an alternative,
 * or ~0. */
lb_status lb_schema_add(lb_schema *s, lb_sitem *item, const lb_json *node, u32 from);
/* The types that all parts allow; 0: a contradiction. */
lb_status lb_schema_types(lb_schema *s, const lb_sitem *item, u32 *types);
/* Text as a literal of the grammar, and as a literal of a JSON string's inside. */
void lb_schema_literal(lb_buf *out, lb_str text);
void lb_schema_value(lb_schema *s, const lb_json *v);

/* json_schema_number.c: appends an alternative, or fails. */
lb_status lb_schema_number(lb_schema *s, const lb_sitem *item, bool integer);
/* json_schema_regex.c: the inside of a string. */
lb_status lb_schema_pattern(lb_schema *s, lb_str pattern);
lb_status lb_schema_format(lb_schema *s, lb_str format);
/* json_schema_object.c */
lb_status lb_schema_object(lb_schema *s, const lb_sitem *item);
lb_status lb_schema_array(lb_schema *s, const lb_sitem *item);

#endif
