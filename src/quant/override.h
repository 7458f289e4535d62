/* SPDX-License-Identifier: Apache-2.0 */
/* override.h: types that the user gives to tensors by name: REGEX=TYPE, the first that is found in
 * a name counts.
 *
 * Patterns are ECMAScript's, of bytes, as std::regex_search of llama-quantize reads them; PCRE2
 * runs them, so its own additions are understood too. Matching is bounded. All memory is the
 * arena's. Not to be shared by threads: matching writes. */
#ifndef LB_QUANT_OVERRIDE_H
#define LB_QUANT_OVERRIDE_H

#include "base/base.h"
#include "base/mem.h"
#include "tensor/dtype.h"

typedef struct lb_override {
    lb_str pattern;
    lb_dtype dtype; /* types of GGUF */
    u32 type;       /* what find_type has found; of GGUF: dtype */
    lb_str type_name;
    void *code; /* PCRE2's */
    struct lb_override *next;
} lb_override;

/* A type by its name, as a number of the finder's own. LB_E_USAGE lists those that there are. */
typedef lb_status (*lb_override_types)(lb_str name, u32 *out, lb_err *err);

/* Zero-initialised but for the arena, and find_type where types are not GGUF's: none. */
typedef struct lb_overrides {
    lb_arena *arena;
    lb_override_types find_type; /* NULL: lb_recipe_type_find */
    lb_override *first, *last;
    void *context, *match, *limits; /* PCRE2's */
} lb_overrides;

/* Adds "REGEX=TYPE"; the last '=' counts. lower: capitals of the pattern are read as small letters
 * (llama-quantize's --tensor-type, also "\D" as "\d"). LB_E_USAGE names what is wrong and where. */
lb_status lb_override_add(lb_overrides *o, lb_str text, bool lower, lb_err *err);
/* The same of all words of a text (llama-quantize's --tensor-type-file). */
lb_status lb_override_add_words(lb_overrides *o, lb_str text, bool lower, lb_err *err);
/* *out: the first whose pattern is found in the name, NULL: none. LB_E_LIMIT: the pattern explodes
 * on this name. */
lb_status lb_override_find(const lb_overrides *o, lb_str name, const lb_override **out,
                           lb_err *err);
/* The same of one alone. */
lb_status lb_override_matches(const lb_overrides *o, const lb_override *v, lb_str name, bool *out,
                              lb_err *err);

#endif
