/* SPDX-License-Identifier: Apache-2.0 */
/* parts.h: an input of several texts or files, for the fuzz targets that take more than one.
 *
 * A part begins with LF 0xff '@' and its letter, and ends where the next begins; what stands before
 * the first is nobody's. Files that must have a path are kept in memory (Linux) or under /tmp. */
#ifndef LB_TESTS_FUZZ_PARTS_H
#define LB_TESTS_FUZZ_PARTS_H

#include "format/gguf_meta.h"
#include "io/json.h"
#include "tensor/source.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define PART_LETTERS 26

typedef struct parts {
    lb_str text[PART_LETTERS]; /* ptr NULL: not there; the last of several counts */
} parts;

static inline lb_str part(const parts *p, char letter) {
    return p->text[letter - 'a'];
}

static inline void parts_split(parts *p, const u8 *data, size_t size) {
    static const lb_str mark = {"\n\xff@", 3};
    lb_str rest = {(const char *)data, size};
    size_t at = 0, end = 0;
    *p = (parts){0};
    while (lb_str_find(rest, mark, &at) && at + 3 < rest.len) {
        char letter = rest.ptr[at + 3];
        rest = lb_str_sub(rest, at + 4, rest.len);
        end = rest.len;
        (void)lb_str_find(rest, mark, &end);
        if (letter >= 'a' && letter <= 'z')
            p->text[letter - 'a'] = lb_str_sub(rest, 0, end);
    }
}

static inline lb_str parts_field(lb_str *rest, char sep) {
    const char *at = rest->len ? memchr(rest->ptr, sep, rest->len) : NULL;
    size_t n = at ? (size_t)(at - rest->ptr) : rest->len;
    lb_str f = lb_str_sub(*rest, 0, n);
    *rest = lb_str_sub(*rest, at ? n + 1 : n, rest->len);
    return f;
}

#define PARTS_LIST 64

/* Lines "key=type:value": str, u32, f32, bool; i32s, bools, strs: lists with commas between. */
static inline void parts_meta(lb_str rest, lb_gguf_meta *m, lb_arena *a) {
    while (rest.len) {
        lb_str line = parts_field(&rest, '\n'), key = parts_field(&line, '=');
        lb_str type = parts_field(&line, ':');
        lb_gguf_kv kv = {.key = key, .type = LB_GGUF_STR, .v.s = line};
        lb_json *number = NULL;
        i32 list[PARTS_LIST] = {0};
        lb_str strs[PARTS_LIST];
        u64 n = 0;
        if (lb_str_eq_c(type, "u32") || lb_str_eq_c(type, "f32"))
            lb_json_parse(line, "number", a, &number, NULL);
        if (lb_str_eq_c(type, "u32")) {
            kv.type = LB_GGUF_U32;
            kv.v.u = 0;
            lb_json_as_u64(number, &kv.v.u);
            kv.v.u &= UINT32_MAX;
        } else if (lb_str_eq_c(type, "f32")) {
            kv.type = LB_GGUF_F32;
            kv.v.f = 0;
            lb_json_as_f64(number, &kv.v.f);
            kv.v.f = (double)(float)kv.v.f;
        } else if (lb_str_eq_c(type, "bool")) {
            lb_str name = lb_arena_str(a, key);
            (void)lb_meta_set_bool(m, name.ptr ? name.ptr : "", lb_str_eq_c(line, "1"), NULL);
            continue;
        } else if (lb_str_eq_c(type, "i32s")) {
            kv.type = LB_GGUF_ARRAY;
            kv.elem = LB_GGUF_I32;
            kv.v.array = list;
            for (; kv.n < PARTS_LIST && line.len; kv.n++)
                list[kv.n] = (i32)parts_field(&line, ',').len;
        } else if (lb_str_eq_c(type, "bools")) {
            lb_str name = lb_arena_str(a, key);
            u8 truth[PARTS_LIST] = {0};
            for (; n < PARTS_LIST && line.len; n++)
                truth[n] = lb_str_eq_c(parts_field(&line, ','), "1");
            (void)lb_meta_set_array(m, name.ptr ? name.ptr : "", LB_GGUF_BOOL, n, truth, NULL);
            continue;
        } else if (lb_str_eq_c(type, "strs")) {
            lb_str name = lb_arena_str(a, key);
            for (; n < PARTS_LIST && line.len; n++)
                strs[n] = parts_field(&line, ',');
            (void)lb_meta_set_array(m, name.ptr ? name.ptr : "", LB_GGUF_STR, n, strs, NULL);
            continue;
        }
        (void)lb_meta_set(m, &kv, NULL);
    }
}

/* ---- files ---- */

#define PARTS_FILES 12

/* File i with these bytes; the path is valid until the next call for i. */
static inline const char *parts_file(u32 i, lb_str bytes) {
    static int fd[PARTS_FILES];
    static char path[PARTS_FILES][32];
    if (!path[i][0]) {
#if defined(__linux__)
        fd[i] = memfd_create("fuzz", 0);
        (void)snprintf(path[i], sizeof path[i], "/proc/self/fd/%d", fd[i]);
#else
        (void)snprintf(path[i], sizeof path[i], "/tmp/lbrx-fuzz-XXXXXX");
        fd[i] = mkstemp(path[i]);
#endif
    }
    bool ok = fd[i] >= 0 && ftruncate(fd[i], 0) == 0 &&
              (bytes.len == 0 || pwrite(fd[i], bytes.ptr, bytes.len, 0) == (ssize_t)bytes.len);
    return ok ? path[i] : "/nonexistent";
}

/* The small files of a folder: names[i] (sorted) from the part letters[i], where it is there. */
static inline void parts_sides(const parts *p, const char *letters, const char *const *names,
                               lb_source *s) {
    u32 n = (u32)strlen(letters);
    s->sides = lb_arena_new(&s->perm, lb_side_file, n);
    for (u32 i = 0; i < n && s->sides; i++) {
        lb_str text = part(p, letters[i]);
        if (text.ptr)
            s->sides[s->n_sides++] = (lb_side_file){
                .name = lb_str_c(names[i]), .path = parts_file(i, text), .size_bytes = text.len};
    }
}

#endif
