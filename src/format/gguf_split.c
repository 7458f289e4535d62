/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_split.c: names of split files and the rule that cuts a list of tensors. */
#include "format/gguf_split.h"
#include <stdio.h>

/* "-%05d-of-%05d.gguf" of llama_split_path; the buffer holds two u32 and the letters. */
#define SUFFIX_MAX 48

static size_t suffix(char out[SUFFIX_MAX], u32 no, u32 count) {
    return (size_t)snprintf(out, SUFFIX_MAX, "-%05u-of-%05u.gguf", no + 1, count);
}

lb_str lb_gguf_split_format(lb_arena *perm, lb_str stem, u32 no, u32 count) {
    char tail[SUFFIX_MAX];
    size_t len = suffix(tail, no, count);
    char *out = lb_arena_push(perm, stem.len + len + 1, 1);
    if (!out)
        return LB_STR_NONE;
    if (stem.len > 0)
        memcpy(out, stem.ptr, stem.len);
    memcpy(out + stem.len, tail, len);
    return (lb_str){out, stem.len + len};
}

bool lb_gguf_split_parse(lb_str name, u32 no, u32 count, lb_str *stem) {
    char tail[SUFFIX_MAX];
    lb_str end = {tail, suffix(tail, no, count)};
    if (name.len <= end.len || !lb_str_ends(name, end))
        return false;
    *stem = lb_str_sub(name, 0, name.len - end.len);
    return true;
}

bool lb_gguf_split_is_part(lb_str name, lb_str stem, u32 *no, u32 *count) {
    size_t of, dot;
    u64 part, parts;
    if (!lb_str_starts(name, stem) || name.len <= stem.len || name.ptr[stem.len] != '-')
        return false;
    lb_str end = lb_str_sub(name, stem.len + 1, name.len);
    if (!lb_str_find(end, LB_STR("-of-"), &of) || !lb_str_find(end, LB_STR(".gguf"), &dot) ||
        dot < of + 4 || !lb_str_to_u64(lb_str_sub(end, 0, of), &part) ||
        !lb_str_to_u64(lb_str_sub(end, of + 4, dot), &parts) || part == 0 || part > parts ||
        parts > LB_GGUF_SPLIT_MAX)
        return false;
    *no = (u32)part - 1;
    *count = (u32)parts;
    /* written in this one way only */
    lb_str same;
    return lb_gguf_split_parse(name, *no, *count, &same) && same.len == stem.len;
}

u64 lb_gguf_split_cut(const u64 *padded_bytes, u64 n, u64 max_bytes, u32 first, u32 *file) {
    u64 at = first, sum = 0;
    for (u64 i = 0; i < n; i++) {
        /* sum <= max_bytes except after a tensor that is above the limit by itself. */
        bool fits = sum <= max_bytes && padded_bytes[i] <= max_bytes - sum;
        if (i > 0 && !fits) {
            at++;
            sum = 0;
        }
        file[i] = (u32)LB_MIN(at, UINT32_MAX);
        sum += padded_bytes[i]; /* sums of real files: no overflow below 2^64 bytes of data */
    }
    return at + 1;
}
