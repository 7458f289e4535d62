/* SPDX-License-Identifier: Apache-2.0 */
/* base.h: the words every file of lbrx uses: integers, strings, status codes, errors, checked sums.
 *
 * Nothing here allocates or does I/O. A function that can fail returns lb_status and takes a
 * `lb_err *` as its last argument (may be NULL); the message is written where the fact is known.
 * Sizes that come from a file go through lb_mul_u64 / lb_add_u64; ranges are tested by
 * subtraction. */
#ifndef LB_BASE_BASE_H
#define LB_BASE_BASE_H

#include <stdalign.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t i8;
typedef int16_t i16;
typedef int32_t i32;
typedef int64_t i64;

#define LB_KIB ((u64)1 << 10)
#define LB_MIB ((u64)1 << 20)
#define LB_GIB ((u64)1 << 30)

#define LB_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define LB_MIN(a, b) ((a) < (b) ? (a) : (b))
#define LB_MAX(a, b) ((a) > (b) ? (a) : (b))

#define LB_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define LB_MUST_CHECK __attribute__((warn_unused_result))
#define LB_UNUSED __attribute__((unused))

/* Our own bugs only; never for what a file or a user says. */
#define LB_ASSERT(cond) ((cond) ? (void)0 : lb_assert_fail(#cond, __FILE__, __LINE__))
_Noreturn void lb_assert_fail(const char *cond, const char *file, int line);

/* ---- status and errors ---- */

/* err.def: LB_ERR(code, text, exit code of the program). One row a code. */
typedef enum lb_status {
#define LB_ERR(code, text, exit) LB_##code,
#include "base/err.def"
#undef LB_ERR
} lb_status;

#define LB_ERR_MSG_MAX 1024

typedef struct lb_err {
    lb_status code;
    u64 off; /* byte offset in the file where the fault was seen; 0 where that says nothing */
    char msg[LB_ERR_MSG_MAX];
} lb_err;

const char *lb_status_text(lb_status s);
int lb_status_exit(lb_status s);

/* Records an error and returns its code, so that a caller can `return lb_fail(...)`. err may be
 * NULL. */
lb_status lb_fail(lb_err *err, lb_status code, const char *fmt, ...) LB_PRINTF(3, 4);
/* The same with the byte offset in the file. */
lb_status lb_fail_at(lb_err *err, lb_status code, u64 off, const char *fmt, ...) LB_PRINTF(4, 5);
/* Puts "<prefix>: " before the message of an error that is set; never replaces it. */
void lb_err_context(lb_err *err, const char *fmt, ...) LB_PRINTF(2, 3);
/* Puts text after the message of an error that is set: what to do next. */
void lb_err_note(lb_err *err, const char *text);

/* Leaves the function (through `return`) with a status that is not LB_OK. */
#define LB_TRY(call)                \
    do {                            \
        lb_status lb_try_ = (call); \
        if (lb_try_ != LB_OK)       \
            return lb_try_;         \
    } while (0)
/* The same for functions that own something: jumps to `done` with `st` set. */
#define LB_TRY_DONE(st, call) \
    do {                      \
        (st) = (call);        \
        if ((st) != LB_OK)    \
            goto done;        \
    } while (0)

/* ---- strings: views, not NUL-terminated unless said so ---- */

typedef struct lb_str {
    const char *ptr; /* may be NULL when len is 0 */
    size_t len;
} lb_str;

#define LB_STR(literal) ((lb_str){"" literal "", sizeof(literal) - 1})
#define LB_STR_NONE ((lb_str){NULL, 0})
/* For printf: ("%.*s", LB_FMT(s)). */
#define LB_FMT(s) (int)((s).len), ((s).ptr ? (s).ptr : "")

static inline lb_str lb_str_c(const char *c) {
    return (lb_str){c, c ? strlen(c) : 0};
}
static inline bool lb_str_eq(lb_str a, lb_str b) {
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}
static inline bool lb_str_eq_c(lb_str a, const char *b) {
    return lb_str_eq(a, lb_str_c(b));
}
int lb_str_cmp(lb_str a, lb_str b);         /* bytewise, as memcmp; shorter first */
int lb_str_cmp_natural(lb_str a, lb_str b); /* digit runs compare as numbers: layer 2 < layer 10 */
bool lb_str_starts(lb_str s, lb_str prefix);
bool lb_str_ends(lb_str s, lb_str suffix);
bool lb_str_find(lb_str s, lb_str needle, size_t *pos); /* first place; false if absent */
lb_str lb_str_sub(lb_str s, size_t from, size_t to);    /* clamped to the string */
bool lb_str_to_u64(lb_str s, u64 *out); /* decimal digits only, no sign, no overflow */
bool lb_str_is_utf8(lb_str s);          /* strict: no surrogates, no overlong forms */
/* A plain file name: not empty, not . or .., no slash, backslash, NUL or control byte. */
bool lb_str_is_file_name(lb_str s);
/* Edits (insert, delete, replace, swap neighbours) between two words, up to 63 bytes each. */
u32 lb_edit_distance(const char *a, const char *b);
/* Whether b is close enough to a to be what was meant. */
bool lb_is_near(const char *a, const char *b, u32 *distance);

/* ---- checked arithmetic: false and *out untouched on overflow ---- */

static inline bool LB_MUST_CHECK lb_add_u64(u64 a, u64 b, u64 *out) {
    u64 r;
    if (__builtin_add_overflow(a, b, &r))
        return false;
    *out = r;
    return true;
}
static inline bool LB_MUST_CHECK lb_mul_u64(u64 a, u64 b, u64 *out) {
    u64 r;
    if (__builtin_mul_overflow(a, b, &r))
        return false;
    *out = r;
    return true;
}
/* Rounds up to a multiple of align (a power of two). */
static inline bool LB_MUST_CHECK lb_align_u64(u64 a, u64 align, u64 *out) {
    u64 r;
    if (__builtin_add_overflow(a, align - 1, &r))
        return false;
    *out = r & ~(align - 1);
    return true;
}
/* The same of a size that is known to be far from the largest; any multiple. */
static inline size_t lb_round_up(size_t n, size_t to) {
    return (n + to - 1) / to * to;
}
static inline u64 lb_gcd_u64(u64 a, u64 b) {
    while (b) {
        u64 rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}
static inline u64 lb_ceil_div_u64(u64 a, u64 b) {
    return a / b + (a % b != 0);
}

/* ---- little-endian loads and stores at any address ---- */

static inline u16 lb_load_u16(const void *p) {
    u16 v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline u32 lb_load_u32(const void *p) {
    u32 v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline u64 lb_load_u64(const void *p) {
    u64 v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void lb_store_u16(void *p, u16 v) {
    memcpy(p, &v, sizeof v);
}
static inline void lb_store_u32(void *p, u32 v) {
    memcpy(p, &v, sizeof v);
}
static inline void lb_store_u64(void *p, u64 v) {
    memcpy(p, &v, sizeof v);
}
static inline float lb_f32_from_bits(u32 b) {
    float f;
    memcpy(&f, &b, sizeof f);
    return f;
}
static inline u32 lb_f32_bits(float f) {
    u32 b;
    memcpy(&b, &f, sizeof b);
    return b;
}
#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "lbrx is written for little-endian machines"
#endif

#endif
