/* SPDX-License-Identifier: Apache-2.0 */
/* test_gguf.c: the GGUF parser against gguf-py's goldens, hostile files, cut files, flipped bits
 * and failing allocations. Opening a model is test_gguf_open.c. */
#include "base/os.h"
#include "gguf_build.h"
#include "test.h"

static lb_arena perm, scratch;
static lb_gguf_dir dir;
static lb_err err;

static lb_status parse(const void *bytes, size_t len) {
    lb_cur c;
    lb_arena_reset(&perm);
    lb_arena_reset(&scratch);
    err = (lb_err){0};
    dir = (lb_gguf_dir){.perm = &perm, .scratch = &scratch};
    lb_cur_mem(&c, "memory", bytes, len);
    lb_status st = lb_gguf_parse(&c, &dir, &err);
    lb_cur_close(&c);
    return st;
}

static lb_status parse_buf(lb_buf *b) {
    lb_status st = parse(b->ptr, b->len);
    lb_buf_deinit(b);
    return st;
}

/* What every accepted directory must satisfy, whatever the bytes were. */
static bool sound(u64 file_bytes) {
    u64 next = dir.data_off_bytes;
    for (u64 i = 0; i < dir.n_tensors; i++) {
        const lb_tensor *t = &dir.tensors[i];
        u64 n, bytes;
        if (t->off_bytes != next || t->off_bytes > file_bytes ||
            t->size_bytes > file_bytes - t->off_bytes || t->name.len == 0 || t->name.len > 63)
            return false;
        if (!lb_shape_elems(&t->shape, &n) || n != t->n_elems ||
            !lb_dtype_bytes(t->dtype, n, &bytes) || bytes != t->size_bytes)
            return false;
        if (!lb_align_u64(next + t->size_bytes - dir.data_off_bytes, dir.align_bytes, &next))
            return false;
        next += dir.data_off_bytes;
    }
    return true;
}

static const char *const goldens[] = {
    "values",
    "types",
    "align8",
    "align32",
    "align64",
    "align4096",
    "shapes",
    "no_tensors",
    "v2",
    "nvfp4",
    "split4000-00001-of-00005",
    "split4000-00005-of-00005",
    "split4000first-00001-of-00006",
};

static bool load_golden(const char *name, const char *ext, lb_arena *a, lb_str *out) {
    char rel[128];
    (void)snprintf(rel, sizeof rel, "gguf/%s.%s", name, ext);
    return lb_os_read_file(lb_test_golden(rel), LB_MIB, a, out, &err) == LB_OK;
}

LB_TEST(goldens_as_gguf_py_reads_them) {
    for (size_t i = 0; i < LB_LEN(goldens); i++) {
        lb_arena a = {0};
        lb_buf text = {0};
        lb_str file, want;
        CHECK(load_golden(goldens[i], "gguf", &a, &file));
        CHECK(load_golden(goldens[i], "txt", &a, &want));
        CHECK_OK(parse(file.ptr, file.len));
        CHECK(sound(file.len));
        lb_buf_printf(&text, "version %u\nalign %u\n", dir.version, dir.align_bytes);
        /* gguf-py pads also where no tensor follows; the data section then does not exist */
        u64 data = dir.data_off_bytes;
        if (dir.n_tensors == 0)
            data = (data + 31) / 32 * 32;
        lb_buf_printf(&text, "data %llu\n", (unsigned long long)data);
        gb_dump_meta(&text, &dir.meta);
        gb_dump_tensors(&text, dir.tensors, dir.n_tensors);
        if (!lb_str_eq(lb_buf_str(&text), want)) {
            lb_test_fail(__FILE__, __LINE__, "%s differs:\n%.*s", goldens[i],
                         LB_FMT(lb_buf_str(&text)));
            return;
        }
        lb_buf_deinit(&text);
        lb_arena_deinit(&a);
    }
}

/* A file whose last tensor is not followed by padding is read; one byte less is refused. */
LB_TEST(last_padding_may_be_missing) {
    lb_arena a = {0};
    lb_str file;
    CHECK(load_golden("align64", "gguf", &a, &file));
    CHECK_OK(parse(file.ptr, file.len));
    const lb_tensor *last = &dir.tensors[dir.n_tensors - 1];
    u64 end = last->off_bytes + last->size_bytes;
    CHECK(end < file.len);
    CHECK_OK(parse(file.ptr, end));
    CHECK(parse(file.ptr, end - 1) == LB_E_FORMAT);
    lb_arena_deinit(&a);
}

/* Every prefix of every golden: an error, or nothing but the last padding is missing. The bytes are
 * copied to a block of exactly that size, so that a sanitizer sees any read beyond. */
LB_TEST(truncated_at_every_byte) {
    const size_t step = lb_test_stride(3);
    u64 n_errors = 0;
    for (size_t i = 0; i < LB_LEN(goldens); i++) {
        lb_arena a = {0};
        lb_str file;
        CHECK(load_golden(goldens[i], "gguf", &a, &file));
        CHECK_OK(parse(file.ptr, file.len));
        u64 end = dir.header_bytes;
        for (u64 t = 0; t < dir.n_tensors; t++)
            end = LB_MAX(end, dir.tensors[t].off_bytes + dir.tensors[t].size_bytes);
        for (size_t n = i % step; n < file.len; n += step) {
            u8 *copy = lb_alloc(n);
            CHECK(copy != NULL);
            memcpy(copy, file.ptr, n);
            lb_status st = parse(copy, n);
            lb_free(copy);
            if (n >= end) {
                CHECK(st == LB_OK);
            } else {
                CHECK(st == LB_E_FORMAT);
                CHECK(strstr(err.msg, "cut off") != NULL);
                n_errors++;
            }
        }
        lb_arena_deinit(&a);
    }
    CHECK(n_errors > 10000 / step);
}

LB_TEST(flipped_bits) {
    u64 n_accepted = 0, n_refused = 0;
    for (size_t i = 0; i < LB_LEN(goldens); i++) {
        lb_arena a = {0};
        lb_str file;
        CHECK(load_golden(goldens[i], "gguf", &a, &file));
        CHECK_OK(parse(file.ptr, file.len));
        u64 header = dir.header_bytes;
        u8 *copy = lb_alloc(file.len);
        CHECK(copy != NULL);
        for (u32 k = 0; k < 4000; k++) {
            memcpy(copy, file.ptr, file.len);
            for (u64 n = 1 + lb_test_rand_below(3); n > 0; n--)
                copy[lb_test_rand_below(header)] ^= (u8)(1u << lb_test_rand_below(8));
            lb_status st = parse(copy, file.len);
            CHECK(st == LB_OK || st == LB_E_FORMAT || st == LB_E_UNSUPPORTED || st == LB_E_LIMIT);
            CHECK(st == LB_OK || err.msg[0] != 0);
            CHECK(st != LB_OK || sound(file.len));
            n_accepted += st == LB_OK;
            n_refused += st != LB_OK;
        }
        lb_free(copy);
        lb_arena_deinit(&a);
    }
    CHECK(n_accepted > 100 && n_refused > 10000); /* both sides were reached */
}

/* 8-byte fields (counts, lengths, dims, offsets) replaced by boundary values at every place. */
LB_TEST(boundary_values_everywhere) {
    static const u64 values[] = {
        0, 1, 63, 64, INT32_MAX, UINT32_MAX, (u64)1 << 32, INT64_MAX, (u64)1 << 63, UINT64_MAX};
    lb_arena a = {0};
    lb_str file;
    CHECK(load_golden("values", "gguf", &a, &file));
    u8 *copy = lb_alloc(file.len);
    CHECK(copy != NULL);
    for (size_t at = 0; at + 8 <= file.len; at++) {
        for (size_t v = 0; v < LB_LEN(values); v++) {
            memcpy(copy, file.ptr, file.len);
            lb_store_u64(copy + at, values[v]);
            lb_status st = parse(copy, file.len);
            CHECK(st != LB_E_NOMEM && st != LB_E_IO);
            CHECK(st != LB_OK || sound(file.len));
        }
    }
    lb_free(copy);
    lb_arena_deinit(&a);
}

LB_TEST(allocation_failures) {
    lb_arena a = {0};
    lb_str file;
    bool done = false;
    CHECK(load_golden("types", "gguf", &a, &file));
    for (u64 n = 1; n < 2000 && !done; n++) {
        lb_arena_deinit(&perm); /* so that chunks are asked for anew */
        lb_arena_deinit(&scratch);
        lb_mem_fail_at(n);
        u64 before = lb_mem_count();
        lb_status st = parse(file.ptr, file.len);
        done = lb_mem_count() - before < n;
        lb_mem_fail_at(0);
        CHECK(st == (done ? LB_OK : LB_E_NOMEM));
    }
    CHECK(done);
    lb_arena_deinit(&a);
}

/* ---- header ---- */

LB_TEST(versions_and_byte_order) {
    static const struct {
        u32 version;
        lb_status st;
        const char *says;
    } cases[] = {
        {0, LB_E_UNSUPPORTED, "version 0"},
        {1, LB_E_UNSUPPORTED, "version 1 is not supported: convert"},
        {2, LB_OK, ""},
        {3, LB_OK, ""},
        {4, LB_E_UNSUPPORTED, "version 4"},
        {0x01000000, LB_E_UNSUPPORTED, "big-endian GGUF (version 1)"},
        {0x03000000, LB_E_UNSUPPORTED, "big-endian GGUF (version 3)"},
        {0x00030000, LB_E_UNSUPPORTED, "big-endian"},
        {UINT32_MAX, LB_E_UNSUPPORTED, "version 4294967295"},
    };
    for (size_t i = 0; i < LB_LEN(cases); i++) {
        lb_buf b = {0};
        gb_head(&b, cases[i].version, 0, 0);
        CHECK(parse_buf(&b) == cases[i].st);
        CHECK(strstr(err.msg, cases[i].says) != NULL);
    }
    CHECK(parse("GGUF", 4) == LB_E_FORMAT);
    CHECK(parse("GGML\3\0\0\0", 8) == LB_E_FORMAT);
    CHECK(strstr(err.msg, "not a GGUF file") != NULL);
    CHECK(parse("", 0) == LB_E_FORMAT);
    CHECK(lb_gguf_probe((const u8 *)"GGUF", 4));
    CHECK(!lb_gguf_probe((const u8 *)"GGUF", 3));
    CHECK(!lb_gguf_probe((const u8 *)"GGUf", 4));
    CHECK(!lb_gguf_probe((const u8 *)"FUGG", 4));
}

/* Counts are refused before anything is allocated for them (CVE-2024-23496, CVE-2024-23605,
 * CVE-2024-21836, CVE-2026-27940: n_kv, n_tensors, the product with an entry's size). */
LB_TEST(hostile_counts) {
    static const u64 counts[] = {2,         1000,         UINT32_MAX, (u64)1 << 32,
                                 INT64_MAX, (u64)1 << 63, UINT64_MAX};
    for (size_t i = 0; i < LB_LEN(counts); i++) {
        lb_buf b = {0};
        gb_head(&b, 3, counts[i], 0);
        lb_buf_put_zeros(&b, 32);
        CHECK(parse_buf(&b) == LB_E_FORMAT);
        CHECK(strstr(err.msg, "tensors do not fit") != NULL);
        CHECK(perm.size_bytes + scratch.size_bytes < 64 * LB_KIB);
        gb_head(&b, 3, 0, counts[i] + (counts[i] < 1000));
        lb_buf_put_zeros(&b, 32);
        CHECK(parse_buf(&b) == LB_E_FORMAT);
        CHECK(strstr(err.msg, "pairs do not fit") != NULL);
    }
}

LB_TEST(limits) {
    lb_buf b = {0};
    gb_head(&b, 3, 0, LB_GGUF_KEYS_MAX + 1);
    lb_buf_put_zeros(&b, (LB_GGUF_KEYS_MAX + 1) * 14);
    CHECK(parse_buf(&b) == LB_E_LIMIT);
    CHECK(strstr(err.msg, "65536") != NULL);
    /* a file larger than what a header may have */
    lb_cur c;
    gb_head(&b, 3, 0, 1);
    gb_array(&b, "a", LB_GGUF_U8, 5000);
    lb_buf_put_zeros(&b, 5000);
    lb_cur_mem(&c, "memory", b.ptr, b.len);
    dir = (lb_gguf_dir){.perm = &perm, .scratch = &scratch, .header_bytes_max = 4096};
    CHECK(lb_gguf_parse(&c, &dir, &err) == LB_E_LIMIT);
    CHECK(strstr(err.msg, "limit of 4096 bytes") != NULL);
    lb_cur_mem(&c, "memory", b.ptr, b.len);
    dir.header_bytes_max = b.len;
    CHECK_OK(lb_gguf_parse(&c, &dir, &err));
    lb_buf_deinit(&b);
}

/* ---- key-value pairs ---- */

/* Lengths of strings and arrays beyond the file (CVE-2024-21825, CVE-2024-21836, the 43-byte file
 * of gguf-py issue 27188, ollama issue 17042). */
LB_TEST(hostile_lengths) {
    static const u64 lens[] = {9,
                               1000,
                               UINT32_MAX,
                               (u64)1 << 32,
                               INT64_MAX,
                               (u64)1 << 61,
                               (u64)1 << 62,
                               ((u64)1 << 63) + 1,
                               UINT64_MAX - 7,
                               UINT64_MAX};
    for (size_t i = 0; i < LB_LEN(lens); i++) {
        lb_buf b = {0};
        gb_head(&b, 3, 0, 1); /* a key */
        lb_buf_put_u64(&b, lens[i]);
        lb_buf_put_zeros(&b, 8);
        CHECK(parse_buf(&b) == LB_E_FORMAT);
        gb_head(&b, 3, 0, 1); /* a value */
        gb_key(&b, "k", LB_GGUF_STR);
        lb_buf_put_u64(&b, lens[i]);
        lb_buf_put_zeros(&b, 8);
        CHECK(parse_buf(&b) == LB_E_FORMAT);
        for (u32 t = 0; t < LB_GGUF_TYPE_COUNT; t++) { /* an array of every type */
            gb_head(&b, 3, 0, 1);
            gb_array(&b, "k", t, lens[i]);
            lb_buf_put_zeros(&b, 8);
            lb_status st = parse_buf(&b);
            CHECK(st == (t == LB_GGUF_ARRAY ? LB_E_UNSUPPORTED : LB_E_FORMAT));
            CHECK(perm.size_bytes + scratch.size_bytes < 64 * LB_KIB);
        }
        gb_head(&b, 3, 0, 1); /* a string in an array */
        gb_array(&b, "k", LB_GGUF_STR, 2);
        gb_str(&b, "fine");
        lb_buf_put_u64(&b, lens[i]);
        lb_buf_put_zeros(&b, 8);
        CHECK(parse_buf(&b) == LB_E_FORMAT);
    }
}

LB_TEST(keys) {
    lb_buf b = {0};
    gb_head(&b, 3, 0, 1);
    gb_kv_u32(&b, "", 1);
    CHECK(parse_buf(&b) == LB_E_FORMAT);
    CHECK(strstr(err.msg, "is empty") != NULL);
    gb_head(&b, 3, 0, 2);
    gb_kv_u32(&b, "same", 1);
    gb_kv_u32(&b, "same", 1);
    CHECK(parse_buf(&b) == LB_E_FORMAT);
    CHECK(strstr(err.msg, "'same' appears twice") != NULL);
    CHECK_U64(err.off, 24 + 8 + 4 + 4 + 4);
    gb_head(&b, 3, 0, 1);
    gb_kv_u32(&b, "\xff\xfe", 1);
    CHECK(parse_buf(&b) == LB_E_FORMAT);
    CHECK(strstr(err.msg, "UTF-8") != NULL);
    gb_head(&b, 3, 0, 1);
    lb_buf_put_u64(&b, 3);
    lb_buf_put(&b, "a\0b", 3);
    lb_buf_put_u32(&b, LB_GGUF_U32);
    lb_buf_put_u32(&b, 1);
    CHECK(parse_buf(&b) == LB_E_FORMAT);
    CHECK(strstr(err.msg, "NUL") != NULL);
}

LB_TEST(value_types) {
    static const u32 bad[] = {13, 14, 255, 256, INT32_MAX, UINT32_MAX};
    for (size_t i = 0; i < LB_LEN(bad); i++) {
        lb_buf b = {0};
        gb_head(&b, 3, 0, 1);
        gb_key(&b, "k", bad[i]);
        lb_buf_put_zeros(&b, 16);
        CHECK(parse_buf(&b) == LB_E_FORMAT);
        gb_head(&b, 3, 0, 1);
        gb_array(&b, "k", bad[i], 1);
        lb_buf_put_zeros(&b, 16);
        CHECK(parse_buf(&b) == LB_E_FORMAT);
    }
    lb_buf b = {0};
    gb_head(&b, 3, 0, 1);
    gb_array(&b, "k", LB_GGUF_ARRAY, 1);
    lb_buf_put_u32(&b, LB_GGUF_U8);
    lb_buf_put_u64(&b, 1);
    lb_buf_put_zeros(&b, 1);
    CHECK(parse_buf(&b) == LB_E_UNSUPPORTED);
    CHECK(strstr(err.msg, "array of arrays") != NULL);
}

/* Forms that ggml reads and gguf-py cannot write: empty arrays, booleans that are neither 0 nor 1.
 */
LB_TEST(unusual_values) {
    static const u8 bools[] = {0, 2, 255};
    lb_buf b = {0};
    u64 u = 9;
    bool yes = false;
    gb_head(&b, 3, 0, 5);
    gb_array(&b, "s0", LB_GGUF_STR, 0);
    gb_array(&b, "f0", LB_GGUF_F32, 0);
    gb_array(&b, "b", LB_GGUF_BOOL, 3);
    lb_buf_put(&b, bools, 3);
    gb_key(&b, "yes", LB_GGUF_BOOL);
    lb_buf_put_u8(&b, 128);
    gb_kv_str(&b, "empty", "");
    CHECK_OK(parse_buf(&b));
    const lb_gguf_kv *kv = lb_meta_find(&dir.meta, "s0");
    CHECK(kv && kv->type == LB_GGUF_ARRAY && kv->elem == LB_GGUF_STR && kv->n == 0);
    kv = lb_meta_find(&dir.meta, "b");
    CHECK(lb_kv_elem_u64(kv, 0, &u) && u == 0);
    CHECK(lb_kv_elem_u64(kv, 1, &u) && u == 1);
    CHECK(memcmp(kv->v.array, "\0\1\1", 3) == 0);
    CHECK(lb_kv_as_bool(lb_meta_find(&dir.meta, "yes"), &yes) && yes);
    lb_str s = {NULL, 9};
    CHECK(lb_kv_as_str(lb_meta_find(&dir.meta, "empty"), &s) && s.len == 0);
}

LB_TEST(alignment_key) {
    static const struct {
        u32 align;
        lb_status st;
    } cases[] = {{0, LB_E_FORMAT},  {1, LB_OK},  {2, LB_OK},        {3, LB_E_FORMAT},
                 {33, LB_E_FORMAT}, {64, LB_OK}, {1u << 31, LB_OK}, {UINT32_MAX, LB_E_FORMAT}};
    for (size_t i = 0; i < LB_LEN(cases); i++) {
        lb_buf b = {0};
        gb_head(&b, 3, 0, 1);
        gb_kv_u32(&b, "general.alignment", cases[i].align);
        CHECK(parse_buf(&b) == cases[i].st);
    }
    static const u32 types[] = {LB_GGUF_I32, LB_GGUF_U64, LB_GGUF_U8, LB_GGUF_F32, LB_GGUF_STR};
    for (size_t i = 0; i < LB_LEN(types); i++) {
        lb_buf b = {0};
        gb_head(&b, 3, 0, 1);
        gb_key(&b, "general.alignment", types[i]);
        lb_buf_put_zeros(&b, 8);
        CHECK(parse_buf(&b) == LB_E_FORMAT);
        CHECK(strstr(err.msg, "must be a u32") != NULL);
    }
    /* an alignment beyond the file */
    lb_buf b = {0};
    gb_head(&b, 3, 1, 1);
    gb_kv_u32(&b, "general.alignment", 1u << 31);
    gb_info(&b, "t", 1, (u64[]){0}, 0, 0);
    lb_buf_put_zeros(&b, 4096);
    CHECK(parse_buf(&b) == LB_E_FORMAT);
    CHECK(strstr(err.msg, "before its tensor data") != NULL);
}

/* ---- tensors ---- */

/* One tensor after a good header, with 4096 bytes behind it. */
static lb_status one_tensor(const char *name, u32 rank, const u64 *ne, u32 type, u64 off) {
    lb_buf b = {0};
    gb_head(&b, 3, 1, 0);
    gb_info(&b, name, rank, ne, type, off);
    gb_pad(&b, 32);
    lb_buf_put_zeros(&b, 4096);
    return parse_buf(&b);
}

/* Products and byte sizes that wrap (CVE-2024-21802, CVE-2025-53630, CVE-2026-33298), negative and
 * too many dimensions (gguf-py issue 25401, gguflib's assert). */
LB_TEST(hostile_shapes) {
    static const struct {
        u32 rank;
        u64 ne[4];
        u32 type;
    } cases[] = {
        {1, {(u64)1 << 63}, 0},
        {1, {UINT64_MAX}, 0},
        {1, {UINT64_MAX - 31}, 2},
        {2, {(u64)1 << 32, (u64)1 << 32}, 0},
        {2, {(u64)1 << 32, (u64)1 << 31}, 0},
        {3, {(u64)1 << 32, (u64)1 << 32, 0}, 0},
        {4, {(u64)1 << 16, (u64)1 << 16, (u64)1 << 16, (u64)1 << 16}, 0},
        {4, {(u64)1 << 62, 2, 2, 1}, 0},
        {1, {INT64_MAX}, 28},                 /* f64: 2^66 bytes */
        {2, {(u64)1 << 31, (u64)1 << 31}, 0}, /* 2^64 bytes: wraps to 0 */
        {2, {((u64)1 << 31) + 1, (u64)1 << 31}, 0},
        {1, {(u64)1 << 62}, 24},    /* fits 64 bits, not the file */
        {2, {1, (u64)1 << 62}, 24}, /* ggml_new_tensor asserts less than 2^63 by division */
        {3, {0, (u64)1 << 62, 2}, 24},
        {1, {1025}, 0}, /* one element more than there is */
        {2, {32, 1000}, 2},
    };
    for (size_t i = 0; i < LB_LEN(cases); i++) {
        CHECK(one_tensor("t", cases[i].rank, cases[i].ne, cases[i].type, 0) == LB_E_FORMAT);
        CHECK(strstr(err.msg, "'t'") != NULL);
    }
    CHECK_OK(one_tensor("t", 1, (u64[]){1024}, 0, 0));
    CHECK(one_tensor("t", 5, (u64[]){1, 1, 1, 1, 1}, 0, 0) == LB_E_FORMAT);
    CHECK(strstr(err.msg, "5 dimensions") != NULL);
    CHECK(one_tensor("t", 0, NULL, 0, 0) == LB_OK); /* a scalar */
    CHECK(dir.tensors[0].shape.rank == 0 && dir.tensors[0].n_elems == 1);
    CHECK(dir.tensors[0].size_bytes == 4);
    lb_buf b = {0};
    gb_head(&b, 3, 1, 0);
    gb_str(&b, "t");
    lb_buf_put_u32(&b, UINT32_MAX);
    lb_buf_put_zeros(&b, 4096);
    CHECK(parse_buf(&b) == LB_E_FORMAT);
}

/* Zero dimensions were a division by zero in ggml once and a null read in others. */
LB_TEST(zero_dimensions) {
    for (u32 type = 0; type < 43; type++) {
        lb_dtype t;
        if (!lb_dtype_find_ggml(type, &t))
            continue;
        u64 block = lb_dtype_get(t)->block_elems;
        CHECK_OK(one_tensor("t", 1, (u64[]){0}, type, 0));
        CHECK_U64(dir.tensors[0].size_bytes, 0);
        CHECK_OK(one_tensor("t", 2, (u64[]){block, 0}, type, 0));
        CHECK_OK(one_tensor("t", 4, (u64[]){0, 3, 0, 7}, type, 0));
        CHECK_OK(one_tensor("t", 1, (u64[]){block}, type, 0));
        CHECK_U64(dir.tensors[0].size_bytes, lb_dtype_get(t)->block_bytes);
        CHECK(dir.tensors[0].dtype == t);
        if (block > 1) {
            CHECK(one_tensor("t", 1, (u64[]){block + 1}, type, 0) == LB_E_FORMAT);
            CHECK(one_tensor("t", 2, (u64[]){block / 2, 2}, type, 0) == LB_E_FORMAT);
            CHECK(strstr(err.msg, "no multiple of") != NULL);
        }
    }
}

LB_TEST(tensor_types) {
    static const u32 removed[] = {4, 5, 31, 32, 33, 36, 37, 38};
    static const u32 unknown[] = {43, 44, 1000, INT32_MAX, (u32)INT32_MAX + 1, UINT32_MAX};
    for (size_t i = 0; i < LB_LEN(removed); i++) {
        CHECK(one_tensor("old", 1, (u64[]){256}, removed[i], 0) == LB_E_UNSUPPORTED);
        CHECK(strstr(err.msg, "removed") != NULL && strstr(err.msg, "'old'") != NULL);
    }
    for (size_t i = 0; i < LB_LEN(unknown); i++) {
        char id[16];
        (void)snprintf(id, sizeof id, "%u", unknown[i]);
        CHECK(one_tensor("t", 1, (u64[]){256}, unknown[i], 0) == LB_E_UNSUPPORTED);
        CHECK(strstr(err.msg, id) != NULL);
    }
}

LB_TEST(tensor_names) {
    char name[66];
    memset(name, 'n', sizeof name);
    name[63] = 0;
    CHECK_OK(one_tensor(name, 1, (u64[]){1}, 0, 0));
    CHECK_STR(dir.tensors[0].name, name);
    name[63] = 'n';
    name[64] = 0;
    CHECK(one_tensor(name, 1, (u64[]){1}, 0, 0) == LB_E_FORMAT);
    CHECK(strstr(err.msg, "64 bytes, the limit is 63") != NULL);
    CHECK(one_tensor("", 1, (u64[]){1}, 0, 0) == LB_E_FORMAT);
    CHECK(one_tensor("\xc0\x80", 1, (u64[]){1}, 0, 0) == LB_E_FORMAT);
    lb_buf b = {0};
    gb_head(&b, 3, 2, 0);
    gb_info(&b, "same", 1, (u64[]){8}, 0, 0);
    gb_info(&b, "same", 1, (u64[]){8}, 0, 32);
    lb_buf_put_zeros(&b, 4096);
    CHECK(parse_buf(&b) == LB_E_FORMAT);
    CHECK(strstr(err.msg, "'same' appears twice") != NULL);
}

/* Offsets are exactly the running sum of padded sizes: no hole, no overlap, no other order. */
LB_TEST(offsets) {
    static const u64 second[] = {0, 31, 33, 36, 64, UINT64_MAX, UINT64_MAX - 31, (u64)1 << 63};
    CHECK(one_tensor("t", 1, (u64[]){1}, 0, 32) == LB_E_FORMAT);
    CHECK(one_tensor("t", 1, (u64[]){1}, 0, UINT64_MAX) == LB_E_FORMAT);
    for (size_t i = 0; i < LB_LEN(second); i++) {
        lb_buf b = {0};
        gb_head(&b, 3, 2, 0);
        gb_info(&b, "a", 1, (u64[]){1}, 0, 0);
        gb_info(&b, "b", 1, (u64[]){1}, 0, second[i]);
        lb_buf_put_zeros(&b, 4096);
        CHECK(parse_buf(&b) == LB_E_FORMAT);
        CHECK(strstr(err.msg, "'b'") != NULL);
    }
    /* sizes that are each representable, their padded sum not (CVE-2025-53630) */
    lb_buf b = {0};
    gb_head(&b, 3, 3, 0);
    gb_info(&b, "a", 1, (u64[]){(u64)1 << 62}, 25, 0);
    gb_info(&b, "b", 1, (u64[]){(u64)1 << 62}, 25, (u64)1 << 63);
    gb_info(&b, "c", 1, (u64[]){16}, 0, 0);
    lb_buf_put_zeros(&b, 4096);
    CHECK(parse_buf(&b) == LB_E_FORMAT);
    CHECK(strstr(err.msg, "2^64") != NULL);
    gb_head(&b, 3, 1, 0); /* padding itself wraps */
    gb_info(&b, "a", 1, (u64[]){INT64_MAX}, 25, 0);
    lb_buf_put_zeros(&b, 4096);
    CHECK(parse_buf(&b) == LB_E_FORMAT);
}

/* Declared bytes beyond the file: what made a quantizer write its heap into a model
 * (CVE-2026-7482). */
LB_TEST(ranges_beyond_the_file) {
    lb_buf b = {0};
    gb_head(&b, 3, 2, 0);
    gb_info(&b, "a", 1, (u64[]){8}, 0, 0);
    gb_info(&b, "b", 1, (u64[]){8}, 0, 32);
    gb_pad(&b, 32);
    u64 data = b.len;
    lb_buf_put_zeros(&b, 64);
    for (u64 n = 0; n < 64; n++)
        CHECK(parse(b.ptr, data + n) == LB_E_FORMAT);
    CHECK_OK(parse(b.ptr, data + 64));
    CHECK_U64(dir.tensors[1].off_bytes, data + 32);
    lb_buf_deinit(&b);
}

/* Shapes come reversed, here and nowhere else. */
LB_TEST(shape_order) {
    CHECK_OK(one_tensor("t", 3, (u64[]){4, 3, 2}, 0, 0));
    const lb_shape *s = &dir.tensors[0].shape;
    CHECK(s->rank == 3 && s->dim[0] == 2 && s->dim[1] == 3 && s->dim[2] == 4);
}

LB_TEST_MAIN("fast")
