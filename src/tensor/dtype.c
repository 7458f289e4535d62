/* SPDX-License-Identifier: Apache-2.0 */
/* dtype.c: the type table of dtype.def and the searches in it. */
#include "tensor/dtype.h"

static const lb_dtype_info table[] = {
#define LB_DTYPE(id, name, st, ggml, n_elems, n_bytes, cls) \
    [LB_##id] = {name, st, ggml, n_elems, n_bytes, LB_CLASS_##cls},
#include "tensor/dtype.def"
#undef LB_DTYPE
};

const lb_dtype_info *lb_dtype_get(lb_dtype t) {
    LB_ASSERT((size_t)t < LB_LEN(table));
    return &table[t];
}

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

static bool eq_any_case(lb_str a, const char *b) {
    if (a.len != strlen(b))
        return false;
    for (size_t i = 0; i < a.len; i++)
        if (lower(a.ptr[i]) != b[i]) /* our names are in lower case */
            return false;
    return true;
}

bool lb_dtype_find(lb_str name, lb_dtype *out) {
    for (size_t i = 0; i < LB_LEN(table); i++) {
        if (eq_any_case(name, table[i].name)) {
            *out = (lb_dtype)i;
            return true;
        }
    }
    return false;
}

bool lb_dtype_find_safetensors(lb_str name, lb_dtype *out) {
    for (size_t i = 0; i < LB_LEN(table); i++) {
        if (table[i].safetensors && lb_str_eq_c(name, table[i].safetensors)) {
            *out = (lb_dtype)i;
            return true;
        }
    }
    return false;
}

bool lb_dtype_find_ggml(u32 id, lb_dtype *out) {
    for (size_t i = 0; i < LB_LEN(table); i++) {
        if (table[i].ggml >= 0 && (u32)table[i].ggml == id) {
            *out = (lb_dtype)i;
            return true;
        }
    }
    return false;
}

/* Removed from GGUF files in 2023 (Q4_2, Q4_3) and 2024 (the interleaved forms of Q4_0 and IQ4_NL,
 * which programs now make when loading); ids from the comments in ggml.h's enum ggml_type. */
const char *lb_dtype_ggml_removed(u32 id) {
    switch (id) {
    case 4:
        return "Q4_2, removed in 2023";
    case 5:
        return "Q4_3, removed in 2023";
    case 31:
        return "Q4_0_4_4, removed in 2024: use Q4_0";
    case 32:
        return "Q4_0_4_8, removed in 2024: use Q4_0";
    case 33:
        return "Q4_0_8_8, removed in 2024: use Q4_0";
    case 36:
        return "IQ4_NL_4_4, removed in 2024: use IQ4_NL";
    case 37:
        return "IQ4_NL_4_8, removed in 2024: use IQ4_NL";
    case 38:
        return "IQ4_NL_8_8, removed in 2024: use IQ4_NL";
    default:
        return NULL;
    }
}

bool lb_dtype_bytes(lb_dtype t, u64 n_elems, u64 *out) {
    const lb_dtype_info *d = lb_dtype_get(t);
    return n_elems % d->block_elems == 0 &&
           lb_mul_u64(n_elems / d->block_elems, d->block_bytes, out);
}
