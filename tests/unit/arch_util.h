/* SPDX-License-Identifier: Apache-2.0 */
/* arch_util.h: golden JSON files of tests/golden/arch and comparison of metadata with them. */
#ifndef LB_TESTS_ARCH_UTIL_H
#define LB_TESTS_ARCH_UTIL_H

#include "format/gguf_meta.h"
#include "io/json.h"

/* Parses tests/golden/arch/<name>; the text and the tree live in the arena. NULL: the test failed.
 */
lb_json *arch_golden(const char *name, lb_arena *perm);
/* A member that holds a JSON text, parsed; NULL where it is null. */
lb_json *arch_text(const lb_json *object, const char *key, lb_arena *perm);
lb_str arch_str(const lb_json *object, const char *key); /* empty if absent or null */

/* Compares pair i of the metadata with [key, type, value] or [key, "array", type, values]. */
bool arch_same_pair(const lb_gguf_kv *kv, const lb_json *want);
/* All pairs, in order, up to the first key that starts with `until`; reports through lb_test_fail.
 */
bool arch_same_meta(const char *what, const lb_gguf_meta *m, const lb_json *want,
                    const char *until);

#endif
