/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_tok_files.c: any keys of a GGUF as a tokenizer -> files, and as one in memory that reads a
 * text.
 *
 * The input is lines `key<TAB>type<TAB>value`: s string, b bool, n u32, S list of strings (parts
 * separated by U+001F), F list of f32, I list of i32 (one byte each), X list of u8. With a last
 * line
 * `=` the sum of lbrx.hf.* is made to fit, so that what was "kept" is used. */
#include "base/base.h"
#include "text/hf_encode.h"
#include "text/hf_take.h"
#include "text/tok_keep.h"
#include "text/tokdata.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LIST_MAX 512

static size_t find(lb_str s, size_t from, char c) {
    const char *p = from < s.len ? memchr(s.ptr + from, c, s.len - from) : NULL;
    return p ? (size_t)(p - s.ptr) : s.len;
}

static void put_strings(lb_gguf_meta *m, const char *key, lb_str v) {
    lb_str list[LIST_MAX];
    u64 n = 0;
    for (size_t pos = 0; pos <= v.len && n < LIST_MAX; n++) {
        size_t end = find(v, pos, '\x1f');
        list[n] = lb_str_sub(v, pos, end);
        pos = end + 1;
    }
    (void)lb_meta_set_array(m, key, LB_GGUF_STR, n, list, NULL);
}

static void put_line(lb_gguf_meta *m, lb_arena *arena, lb_str line) {
    size_t a = find(line, 0, '\t'), b = find(line, a + 1, '\t');
    const char *key = lb_arena_str(arena, lb_str_sub(line, 0, a)).ptr;
    lb_str v = lb_str_sub(line, b + 1, line.len);
    i32 ints[LIST_MAX];
    float floats[LIST_MAX];
    u64 n = LB_MIN(v.len, (size_t)LIST_MAX), id = 0;
    for (u64 i = 0; i < n; i++) {
        ints[i] = (i8)v.ptr[i];
        floats[i] = v.ptr[i] == '?' ? lb_f32_from_bits(0x7fc00000) : -(float)(u8)v.ptr[i];
    }
    if (!key || a + 2 != b || a == 0)
        return;
    switch (line.ptr[a + 1]) {
    case 's':
        (void)lb_meta_set_str(m, key, v, NULL);
        break;
    case 'b':
        (void)lb_meta_set_bool(m, key, v.len && v.ptr[0] == '1', NULL);
        break;
    case 'n':
        (void)lb_str_to_u64(v, &id);
        (void)lb_meta_set_u32(m, key, (u32)id, NULL);
        break;
    case 'S':
        put_strings(m, key, v);
        break;
    case 'F':
        (void)lb_meta_set_array(m, key, LB_GGUF_F32, n, floats, NULL);
        break;
    case 'I':
        (void)lb_meta_set_array(m, key, LB_GGUF_I32, n, ints, NULL);
        break;
    case 'X':
        (void)lb_meta_set_array(m, key, LB_GGUF_U8, v.len, v.ptr, NULL);
        break;
    default:
        break;
    }
}

typedef struct taken {
    lb_hf_tok tok;
    lb_arena arena;
} taken;

static lb_status take(void *ctx, const lb_hf_parts *p, lb_err *err) {
    taken *t = ctx;
    return lb_hf_tok_take(&t->tok, p, "taken", &t->arena, err);
}

/* Failures are no matter; what is taken must be sound. */
static void encode(const lb_gguf_meta *meta) {
    static const char text[] = "a ab  \xe2\x96\x81"
                               "abc\xc3\xa9<s>the\n";
    taken t = {.arena = {.max_bytes = 64 * LB_MIB}};
    lb_hf_enc e;
    lb_buf ids = {0};
    if (lb_tok_put_json(meta, take, &t, NULL) == LB_OK) {
        if (lb_hf_enc_init(&e, &t.tok, NULL) == LB_OK) {
            (void)lb_hf_encode(&e, lb_str_c(text), true, &ids, NULL);
            lb_hf_enc_deinit(&e);
        }
        lb_hf_tok_deinit(&t.tok);
    }
    lb_buf_deinit(&ids);
    lb_arena_deinit(&t.arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    lb_arena arena = {.max_bytes = 256 * LB_MIB}, out = {.max_bytes = 256 * LB_MIB};
    lb_str text = {(const char *)data, size};
    lb_gguf_meta meta;
    lb_tok_file *files;
    u64 n;
    char sum[33];
    lb_meta_init(&meta, &arena);
    for (size_t pos = 0; pos < text.len;) {
        size_t end = find(text, pos, '\n');
        lb_str line = lb_str_sub(text, pos, end);
        pos = end + 1;
        if (lb_str_eq_c(line, "=")) {
            lb_tok_sum(&meta, NULL, sum);
            (void)lb_meta_set_str(&meta, "lbrx.hf.tokenizer_sum", lb_str_c(sum), NULL);
        } else if (line.len) {
            put_line(&meta, &arena, line);
        }
    }
    if (lb_tok_files_from_meta(&meta, &out, &files, &n, NULL) == LB_OK)
        for (u64 i = 0; i < n; i++) {
            lb_out again = {0};
            LB_ASSERT(lb_tok_file_write(&files[i], &again, NULL) == LB_OK);
            LB_ASSERT(lb_out_end(&again, NULL) == LB_OK);
        }
    encode(&meta);
    lb_meta_deinit(&meta);
    lb_arena_deinit(&arena);
    lb_arena_deinit(&out);
    return 0;
}
