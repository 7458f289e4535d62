/* SPDX-License-Identifier: Apache-2.0 */
/* test_imatrix.c: importance matrices: the values of llama-quantize (tests/golden/imatrix, by
 * make_imatrix.py there) in every bit, what is refused by name, files cut at every byte and with
 * flipped bits, whether one is of a model. */
#include "format/imatrix.h"
#include "base/os.h"
#include "gguf_build.h"
#include "ops/inspect.h"
#include "ops/open.h"
#include "st_files.h"
#include "test.h"
#include <math.h>

static lb_err err;

static const char *golden(const char *name) {
    static char path[96];
    snprintf(path, sizeof path, "imatrix/%s", name);
    return lb_test_golden(path);
}

/* ---- llama-quantize's values ---- */

/* An entry in pieces of `step` values. */
static lb_status dump_entry(const lb_source *s, lb_fds *fds, const lb_imatrix_entry *e, u64 step,
                            lb_buf *out) {
    float tile[64];
    lb_buf_printf(out, "entry %.*s %llu", LB_FMT(e->name), (unsigned long long)e->n_values);
    for (u64 at = 0; at < e->n_values; at += step) {
        u64 n = LB_MIN(step, e->n_values - at);
        LB_TRY(lb_imatrix_read(s, fds, e, at, n, tile, &err));
        for (u64 i = 0; i < n; i++)
            lb_buf_printf(out, " %x", lb_f32_bits(tile[i]));
    }
    lb_buf_put_c(out, "\n");
    return LB_OK;
}

/* As imatrix_host.cpp prints what load_imatrix gives. */
static lb_status dump(const lb_source *s, u64 step, lb_buf *out) {
    const lb_imatrix *im = s->imatrix;
    lb_fds *fds = NULL;
    lb_buf_printf(out, "chunks %llu\n", (unsigned long long)im->chunk_count);
    for (u64 i = 0; i < im->n_datasets; i++)
        lb_buf_printf(out, "dataset %.*s\n", LB_FMT(im->datasets[i]));
    lb_status st = lb_fds_new(&fds, s->files, s->n_files, 4, &err);
    for (u64 i = 0; i < im->n_entries && st == LB_OK; i++)
        st = dump_entry(s, fds, &im->entries[i], step, out);
    for (u64 i = 0; i < im->n_entries && st == LB_OK; i++)
        st = lb_imatrix_check(s, fds, &im->entries[i], &err);
    lb_fds_free(&fds);
    return st;
}

LB_TEST(values_of_llama_quantize) {
    static const char *const names[] = {"tool.gguf", "tool.dat", "old.dat", "other.gguf"};
    for (size_t i = 0; i < LB_LEN(names); i++)
        for (u64 step = 1; step <= 64; step += 9) {
            lb_source *s = NULL;
            lb_buf got = {0};
            char name[32];
            size_t len;
            CHECK_OK(lb_imatrix_open(&s, golden(names[i]), &err));
            CHECK_OK(dump(s, step, &got));
            snprintf(name, sizeof name, "%s.txt", names[i]);
            u8 *want = st_slurp(golden(name), &len);
            if (len != got.len || memcmp(want, got.ptr, len) != 0)
                lb_test_fail(__FILE__, __LINE__, "%s in steps of %llu:\n%.*s", names[i],
                             (unsigned long long)step, LB_FMT(lb_buf_str(&got)));
            lb_free(want);
            lb_buf_deinit(&got);
            lb_source_close(&s);
        }
}

LB_TEST(directory) {
    lb_source *s = NULL;
    CHECK_OK(lb_imatrix_open(&s, golden("tool.gguf"), &err));
    const lb_imatrix *im = s->imatrix;
    CHECK(!im->legacy && im->has_chunks && im->chunk_size == 512);
    CHECK(im->n_entries == 6 && im->n_counts == 9 && im->n_empty == 2 && im->n_other == 0);
    CHECK(s->format == LB_FORMAT_IMATRIX && s->n_tensors == 12 && s->gguf);
    const lb_imatrix_entry *e = lb_imatrix_find(im, LB_STR("blk.0.ffn_down_exps.weight"));
    CHECK(e && e->n_cols == 6 && e->n_mats == 4 && e->n_counts == 4 && e->n_empty == 1);
    CHECK(e->counts[0] == 700 && e->counts[1] == 0 && e->counts[2] == 3);
    e = lb_imatrix_find(im, LB_STR("blk.1.attn_k_b.weight"));
    CHECK(e && e->n_cols == 24 && e->n_mats == 1 && e->n_counts == 1);
    CHECK(!lb_imatrix_find(im, LB_STR("blk.1.attn_k_b")) && !lb_imatrix_find(im, LB_STR("")));
    lb_source_close(&s);
    CHECK_OK(lb_imatrix_open(&s, golden("other.gguf"), &err));
    im = s->imatrix;
    e = lb_imatrix_find(im, LB_STR("blk.3.ffn_up_exps.weight"));
    CHECK(e && e->n_cols == 5 && e->n_mats == 4 && e->counts[1] == 1 && e->counts[2] == 3);
    e = lb_imatrix_find(im, LB_STR("blk.3.attn_v_b.weight"));
    CHECK(e && e->n_cols == 5 && e->n_mats == 4 && e->n_counts == 1);
    CHECK(im->n_other == 2 && im->n_datasets == 3);
    CHECK(strstr(s->notes.ptr, "2 tensors, the first 'blk.2.attn_k.weight.in_sum'"));
    CHECK(strstr(s->notes.ptr, "counts of zero: 1 of 7, the first of 'blk.3.ffn_up_exps.weight'"));
    lb_source_close(&s);
    CHECK_OK(lb_imatrix_open(&s, golden("old.dat"), &err));
    im = s->imatrix;
    CHECK(im->legacy && !im->has_chunks && im->n_datasets == 0 && im->n_entries == 5);
    CHECK(!s->gguf && s->n_tensors == 5 && s->notes.len == 0);
    lb_source_close(&s);
}

/* ---- GGUF files by hand ---- */

typedef struct part {
    const char *name;
    u32 rank;
    u64 ne[4]; /* fastest first */
    u32 type;
    float value; /* of every element */
} part;

enum { NO_DATASETS = 1, NO_COUNT = 2, NO_SIZE = 4, ODD_DATASETS = 8, BIG_COUNT = 16, NO_TYPE = 32 };

static void put_data(lb_buf *b, const part *p, u64 n) {
    for (u64 i = 0; i < n; i++) {
        u64 elems = 1;
        for (u32 d = 0; d < p[i].rank; d++)
            elems *= p[i].ne[d];
        for (u64 k = 0; k < elems; k++)
            lb_buf_put_u32(b, lb_f32_bits(p[i].value));
        gb_pad(b, 32);
    }
}

static void build(lb_buf *b, const part *p, u64 n, u32 how) {
    u64 off = 0;
    u32 left = how & (NO_DATASETS | NO_COUNT | NO_SIZE | NO_TYPE);
    gb_head(b, 3, n, 4u - (u32)__builtin_popcount(left));
    if (!(how & NO_TYPE))
        gb_kv_str(b, "general.type", "imatrix");
    if (how & ODD_DATASETS)
        gb_kv_str(b, "imatrix.datasets", "x");
    else if (!(how & NO_DATASETS))
        gb_array(b, "imatrix.datasets", 8, 0);
    if (!(how & NO_COUNT))
        gb_kv_u32(b, "imatrix.chunk_count", how & BIG_COUNT ? UINT32_MAX : 1);
    if (!(how & NO_SIZE))
        gb_kv_u32(b, "imatrix.chunk_size", 512);
    for (u64 i = 0; i < n; i++) {
        u64 bytes = p[i].type ? 2 : 4;
        gb_info(b, p[i].name, p[i].rank, p[i].ne, p[i].type, off);
        for (u32 d = 0; d < p[i].rank; d++)
            bytes *= p[i].ne[d];
        off += (bytes + 31) / 32 * 32;
    }
    gb_pad(b, 32);
    put_data(b, p, n);
}

static lb_status parse(const void *bytes, size_t len, lb_imatrix_dir *dir, lb_arena *a) {
    lb_cur c;
    err = (lb_err){0};
    lb_cur_mem(&c, "x.imatrix", bytes, len);
    return lb_imatrix_parse(&c, a, a, dir, &err);
}

static void refused(const char *what, const lb_buf *b, lb_status want, const char *says) {
    lb_arena a = {0};
    lb_imatrix_dir dir;
    lb_status st = parse(b->ptr, b->len, &dir, &a);
    if (st != want || (st != LB_OK && (!strstr(err.msg, says) || !strstr(err.msg, "x.imatrix"))))
        lb_test_fail(__FILE__, __LINE__, "%s: %s: %s", what, lb_status_text(st), err.msg);
    lb_arena_deinit(&a);
}

LB_TEST(gguf_refused_by_name) {
    static const struct {
        part p[4];
        u64 n;
        u32 how;
        const char *says; /* NULL: not refused */
    } cases[] = {
        {{{"a.in_sum2", 1, {4}, 0, 1}, {"a.counts", 1, {1}, 0, 1}}, 2, 0, NULL},
        {{{"a.in_sum2", 1, {4}, 0, 1}, {"a.counts", 1, {1}, 0, 1}}, 2, NO_TYPE, NULL},
        {{{"a.in_sum2", 2, {4, 2}, 0, 1}, {"a.counts", 2, {1, 2}, 0, 1}}, 2, 0, NULL},
        {{{"a.in_sum2", 1, {4}, 0, 1}, {"a.counts", 1, {1}, 0, 0}}, 2, 0, NULL},
        {{{"a.in_sum2", 1, {4}, 0, 1}}, 1, 0, "'a': has sums (.in_sum2) and no counts"},
        {{{"a.counts", 1, {4}, 0, 1}}, 1, 0, "'a': has counts (.counts) and no sums"},
        {{{"a.in_sum2", 1, {4}, 0, 1}, {"b.counts", 1, {1}, 0, 1}}, 2, 0, "'b': has counts"},
        {{{"a.in_sum2", 1, {4}, 0, 1}, {"a.counts", 1, {3}, 0, 1}}, 2, 0, "3 counts for 4 values"},
        {{{"a.in_sum2", 2, {4, 2}, 0, 1}, {"a.counts", 1, {4}, 0, 1}},
         2,
         0,
         "'a': 4 counts for 8 values in 2 matrices"},
        {{{"a.in_sum2", 1, {4}, 0, 1}, {"a.counts", 1, {0}, 0, 1}}, 2, 0, "0 counts for 4 values"},
        {{{"a.in_sum2", 1, {0}, 0, 1}, {"a.counts", 1, {1}, 0, 1}}, 2, 0, "'a': has no values"},
        {{{"a.in_sum2", 1, {4}, 1, 1}, {"a.counts", 1, {1}, 0, 1}}, 2, 0, "its sums are not f32"},
        {{{"a.in_sum2", 1, {4}, 0, 1}, {"a.counts", 1, {1}, 1, 1}}, 2, 0, "its counts are not f32"},
        {{{".in_sum2", 1, {4}, 0, 1}, {".counts", 1, {1}, 0, 1}}, 2, 0, "of no tensor's name"},
        {{{"a.in_sum2", 1, {4}, 0, 1}, {"a.counts", 1, {1}, 0, -1}}, 2, 0, "count 0 is -1"},
        {{{"a.in_sum2", 1, {4}, 0, 1}, {"a.counts", 1, {1}, 0, NAN}}, 2, 0, "'a': count 0 is "},
        {{{"a.in_sum2", 1, {4}, 0, 1}, {"a.counts", 1, {1}, 0, INFINITY}}, 2, 0, "count 0 is inf"},
        {{{"a.in_sum2", 1, {4}, 0, 1}, {"a.counts", 1, {1}, 0, 1e30f}}, 2, 0, "count 0 is 1e+30"},
        {{{"a.in_sum2", 1, {4}, 0, 1}, {"a.in_sum2", 1, {4}, 0, 1}}, 2, 0, "'a.in_sum2' appears"},
        {{{"a.in_sum", 1, {4}, 0, 1}}, 1, 0, "has no entries"},
        {{{"a.in_sum2", 1, {4}, 0, 1}, {"a.counts", 1, {1}, 0, 1}}, 2, NO_DATASETS, "datasets'"},
        {{{"a.in_sum2", 1, {4}, 0, 1}, {"a.counts", 1, {1}, 0, 1}}, 2, ODD_DATASETS, "no list"},
        {{{"a.in_sum2", 1, {4}, 0, 1}, {"a.counts", 1, {1}, 0, 1}}, 2, NO_COUNT, "chunk_count'"},
        {{{"a.in_sum2", 1, {4}, 0, 1}, {"a.counts", 1, {1}, 0, 1}}, 2, BIG_COUNT, "is no number"},
        {{{"a.in_sum2", 1, {4}, 0, 1}, {"a.counts", 1, {1}, 0, 1}}, 2, NO_SIZE, "chunk_size'"},
        {{{"a.in_sum2", 1, {4}, 0, 1}, {"a.counts", 1, {1}, 0, 1}},
         2,
         NO_TYPE | NO_DATASETS | NO_COUNT | NO_SIZE,
         "no importance matrix"},
    };
    for (size_t i = 0; i < LB_LEN(cases); i++) {
        lb_buf b = {0};
        char what[32];
        snprintf(what, sizeof what, "case %zu", i);
        build(&b, cases[i].p, cases[i].n, cases[i].how);
        refused(what, &b, cases[i].says ? LB_E_FORMAT : LB_OK, cases[i].says ? cases[i].says : "");
        lb_buf_deinit(&b);
    }
}

/* ---- legacy files by hand ---- */

static void put_entry(lb_buf *b, const char *name, i32 calls, i32 n) {
    lb_buf_put_u32(b, (u32)strlen(name));
    lb_buf_put_c(b, name);
    lb_buf_put_u32(b, (u32)calls);
    lb_buf_put_u32(b, (u32)n);
    for (i32 i = 0; i < n; i++)
        lb_buf_put_u32(b, lb_f32_bits(1));
}

LB_TEST(legacy_refused_by_name) {
    static const struct {
        i32 n, calls[2], values[2];
        const char *names[2], *tail;
        u32 tail_len;
        const char *says;
    } cases[] = {
        {2, {1, 0}, {3, 2}, {"a.b", "a.c"}, "", 0, NULL},
        {2, {1, 1}, {3, 3}, {"a.b", "a.c"}, "\1\0\0\0\1\0\0\0x", 9, NULL},
        {2, {1, 1}, {3, 3}, {"a.b", "a.c"}, "\1\0\0\0\0\0\0\0", 8, NULL},
        {2, {1, 1}, {3, 3}, {"a.b", "a.b"}, "", 0, "'a.b': stands there twice"},
        {2,
         {1, -1},
         {3, 3},
         {"a.b", "a.c"},
         "",
         0,
         "'a.c': x.imatrix: importance matrix: the number of calls is -1"},
        {2,
         {1, 1},
         {3, 0},
         {"a.b", "a.c"},
         "",
         0,
         "'a.c': x.imatrix: importance matrix: the number of values is 0"},
        {2, {1, 1}, {3, -5}, {"a.b", "a.c"}, "", 0, "the number of values is -5"},
        {3, {1, 1}, {3, 3}, {"a.b", "a.c"}, "", 0, "file ends inside the length of a name"},
        {9, {1, 1}, {3, 3}, {"a.b", "a.c"}, "", 0, "9 entries do not fit"},
        {2, {1, 1}, {3, 3}, {"a.b", "a.\xff"}, "", 0, "the name of entry 1 is no text"},
        {2,
         {1, 1},
         {3, 3},
         {"a.b", "a.c"},
         "\1\0\0\0",
         4,
         "file ends inside the length of the data"},
        {2, {1, 1}, {3, 3}, {"a.b", "a.c"}, "\1\0\0\0\2\0\0\0x", 9, "file ends inside the dataset"},
        {2, {1, 1}, {3, 3}, {"a.b", "a.c"}, "\1\0\0\0\1\0\0\0\0", 9, "name holds a NUL"},
        {2,
         {1, 1},
         {3, 3},
         {"a.b", "a.c"},
         "\1\0\0\0\1\0\0\0xy",
         10,
         "1 bytes more behind its end"},
        {2, {1, 1}, {3, 3}, {"a.b", "a.c"}, "\377\377\377\377\0\0\0\0", 8, "of chunks is -1"},
        {2, {1, 1}, {3, 3}, {"a.b", "a.c"}, "\1\0\0\0\377\377\377\377", 8, "name is -1"},
    };
    for (size_t i = 0; i < LB_LEN(cases); i++) {
        lb_buf b = {0};
        char what[32];
        snprintf(what, sizeof what, "legacy %zu", i);
        lb_buf_put_u32(&b, (u32)cases[i].n);
        for (u32 k = 0; k < 2; k++)
            put_entry(&b, cases[i].names[k], cases[i].calls[k], cases[i].values[k]);
        lb_buf_put(&b, cases[i].tail, cases[i].tail_len);
        refused(what, &b, cases[i].says ? LB_E_FORMAT : LB_OK, cases[i].says ? cases[i].says : "");
        lb_buf_deinit(&b);
    }
}

LB_TEST(limits) {
    lb_buf b = {0};
    char name[LB_IMATRIX_NAME_MAX + 2];
    memset(name, 'a', sizeof name);
    name[LB_IMATRIX_NAME_MAX + 1] = 0;
    lb_buf_put_u32(&b, 2);
    put_entry(&b, "a", 1, 1);
    put_entry(&b, name, 1, 1);
    refused("name", &b, LB_E_LIMIT, "the length of a name is 256, the limit is 255");
    lb_buf_reset(&b);
    lb_buf_put_u32(&b, 1);
    put_entry(&b, "a", 1, 1);
    lb_buf_put_u32(&b, 1);
    lb_buf_put_u32(&b, LB_IMATRIX_DATASET_MAX + 1);
    lb_buf_put_zeros(&b, LB_IMATRIX_DATASET_MAX + 1);
    refused("dataset", &b, LB_E_LIMIT, "the limit is 65536");
    lb_buf_reset(&b);
    part p[] = {{"a.in_sum2", 1, {1 << 22}, 0, 1},
                {"a.counts", 1, {1 << 22}, 0, 1},
                {"b.in_sum2", 1, {1}, 0, 1},
                {"b.counts", 1, {1}, 0, 1}};
    build(&b, p, 4, 0);
    refused("counts", &b, LB_E_LIMIT, "the number of counts is 4194305, the limit is 4194304");
    lb_buf_deinit(&b);
}

/* ---- values that are none ---- */

LB_TEST(values_refused_by_name) {
    static const float bad[] = {NAN, INFINITY, -INFINITY, -1, -1e-45f};
    lb_arena a = {0};
    lb_imatrix_dir dir;
    lb_buf b = {0};
    part p[] = {{"a.in_sum2", 2, {4, 3}, 0, 1}, {"a.counts", 2, {1, 3}, 0, 0}};
    build(&b, p, 2, 0);
    CHECK_OK(parse(b.ptr, b.len, &dir, &a));
    const lb_imatrix_entry *e = lb_imatrix_find(&dir.im, LB_STR("a"));
    for (size_t i = 0; i < LB_LEN(bad); i++) {
        float values[5] = {1, 2, bad[i], 4, 5};
        CHECK(lb_imatrix_values(&dir.im, e, 4, 5, values, &err) == LB_E_FORMAT);
        CHECK(strstr(err.msg, "'a': value 6 of column 2 is"));
    }
    /* matrices without a count: 1, whatever stands there */
    float values[5] = {0, 2, 3e38f, -0.0f, 5};
    CHECK_OK(lb_imatrix_values(&dir.im, e, 7, 5, values, &err));
    for (size_t i = 0; i < 5; i++)
        CHECK(values[i] == 1);
    lb_buf_deinit(&b);
    lb_arena_deinit(&a);
}

LB_TEST(damaged_values_of_a_file) {
    static const char *const names[] = {"tool.gguf", "tool.dat"};
    const char *dir = st_dir("values");
    for (size_t i = 0; i < LB_LEN(names); i++) {
        lb_source *s = NULL;
        lb_fds *fds = NULL;
        size_t len;
        u8 *bytes = st_slurp(golden(names[i]), &len);
        CHECK_OK(lb_imatrix_open(&s, golden(names[i]), &err));
        u64 off = lb_imatrix_find(s->imatrix, LB_STR("output.weight"))->off_bytes;
        lb_source_close(&s);
        lb_store_u32(bytes + off + 44, 0x7fc00000);
        st_write(dir, names[i], bytes, len);
        CHECK_OK(lb_imatrix_open(&s, st_path(dir, names[i]), &err));
        CHECK_OK(lb_fds_new(&fds, s->files, s->n_files, 4, &err));
        const lb_imatrix_entry *e = lb_imatrix_find(s->imatrix, LB_STR("output.weight"));
        CHECK(lb_imatrix_check(s, fds, e, &err) == LB_E_FORMAT);
        CHECK(strstr(err.msg, "'output.weight': value 11 of column 11 is"));
        CHECK(strstr(err.msg, names[i]));
        CHECK_OK(lb_imatrix_check(s, fds, &s->imatrix->entries[0], &err));
        lb_fds_free(&fds);
        lb_source_close(&s);
        lb_free(bytes);
    }
}

/* ---- damage ---- */

static bool sound(const lb_imatrix_dir *d, size_t len) {
    u64 n = 0;
    for (u64 i = 0; i < d->im.n_entries; i++) {
        const lb_imatrix_entry *e = &d->im.entries[i];
        if (e->off_bytes > len || e->n_values > (len - e->off_bytes) / 4 || !e->counts ||
            e->n_mats * e->n_cols != e->n_values || (e->n_counts != 1 && e->n_counts != e->n_mats))
            return false;
        if (i && lb_str_cmp(e[-1].name, e->name) >= 0)
            return false;
        for (u64 k = 0; k < e->n_counts; k++)
            if (!(e->counts[k] >= 0) || e->counts[k] != floorf(e->counts[k]))
                return false;
        n += e->n_counts;
    }
    return n == d->im.n_counts && d->im.n_entries > 0;
}

/* A file cut at `whole` is one too. The padding at a GGUF's end may be missing. */
static void cut_and_flip(const char *name, size_t whole) {
    size_t len, end = 0;
    u8 *bytes = st_slurp(golden(name), &len);
    lb_arena all = {0};
    lb_imatrix_dir d;
    CHECK_OK(parse(bytes, len, &d, &all));
    for (u64 i = 0; i < d.n_tensors; i++)
        end = LB_MAX(end, (size_t)(d.tensors[i].off_bytes + d.tensors[i].size_bytes));
    end = d.im.legacy ? len : end;
    CHECK(len - end < 64);
    lb_arena_deinit(&all);
    for (size_t n = 0; n < len; n++) {
        lb_arena a = {0};
        lb_imatrix_dir dir;
        u8 *cut = lb_alloc(n + 1); /* its end is watched by the address sanitizer */
        CHECK(cut);
        memcpy(cut, bytes, n);
        lb_status st = parse(cut, n, &dir, &a);
        bool may = n == whole || n >= end;
        if (may ? st != LB_OK || !sound(&dir, n) : st != LB_E_FORMAT || !err.msg[0])
            lb_test_fail(__FILE__, __LINE__, "%s cut at %zu: %s", name, n, err.msg);
        lb_free(cut);
        lb_arena_deinit(&a);
    }
    for (size_t bit = 0; bit < 8 * len; bit++) {
        lb_arena a = {0};
        lb_imatrix_dir dir;
        bytes[bit / 8] ^= (u8)(1u << bit % 8);
        lb_status st = parse(bytes, len, &dir, &a);
        if (st == LB_OK ? !sound(&dir, len) : !err.msg[0] || lb_status_exit(st) < 3)
            lb_test_fail(__FILE__, __LINE__, "%s bit %zu: %s", name, bit, err.msg);
        bytes[bit / 8] ^= (u8)(1u << bit % 8);
        lb_arena_deinit(&a);
    }
    lb_free(bytes);
}

/* A legacy file that ends with its entries is one of an older tool. */
LB_TEST(cut_and_flipped) {
    size_t old;
    lb_free(st_slurp(golden("old.dat"), &old));
    cut_and_flip("tool.gguf", SIZE_MAX);
    cut_and_flip("other.gguf", SIZE_MAX);
    cut_and_flip("tool.dat", old);
    cut_and_flip("old.dat", SIZE_MAX);
}

LB_TEST(out_of_memory) {
    static const char *const names[] = {"other.gguf", "tool.dat"};
    for (size_t i = 0; i < LB_LEN(names); i++) {
        lb_status st = LB_E_NOMEM;
        u64 n = 1;
        for (; st != LB_OK; n++) {
            lb_source *s = NULL;
            lb_mem_fail_at(n);
            st = lb_imatrix_open(&s, golden(names[i]), &err);
            lb_mem_fail_at(0);
            CHECK(st == LB_OK || (st == LB_E_NOMEM && !s));
            lb_source_close(&s);
        }
        CHECK(n > 5);
    }
}

/* ---- as an argument ---- */

LB_TEST(as_an_argument) {
    static const char *const names[] = {"tool.gguf", "tool.dat"};
    for (size_t i = 0; i < LB_LEN(names); i++) {
        lb_arena a = {0};
        lb_source *s = NULL;
        lb_inspect in;
        lb_buf json = {0};
        CHECK(lb_open(&s, golden(names[i]), &err) == LB_E_UNSUPPORTED && !s);
        CHECK(strstr(err.msg, "an importance matrix, not a model"));
        CHECK_OK(lb_open_any(&s, golden(names[i]), &err));
        CHECK_STR(lb_str_c(lb_format_name(s->format)), "imatrix");
        CHECK_OK(lb_inspect_run(&in, s, &a, &err));
        CHECK(in.n_params == 0 && in.architecture.len == 0);
        CHECK_OK(lb_inspect_json(&in, &json, &err));
        lb_buf_put_u8(&json, 0);
        CHECK(
            strstr((char *)json.ptr, i ? "\"blk.0.ffn_down_exps.weight\", \"values\": 24, "
                                         "\"columns\": null, \"experts\": null, \"counts\": [32769]"
                                       : "\"blk.0.ffn_down_exps.weight\", \"values\": 24, "
                                         "\"columns\": 6, \"experts\": 4, "
                                         "\"counts\": [700, 0, 3, 16777220]"));
        CHECK(strstr((char *)json.ptr, i ? "\"chunk_size\": null" : "\"chunk_size\": 512"));
        lb_buf_deinit(&json);
        lb_source_close(&s);
        lb_arena_deinit(&a);
    }
}

/* Bytes that begin like other files. */
LB_TEST(probe) {
    static const struct {
        const char *head;
        size_t n;
        bool is;
    } cases[] = {{"\1\0\0\0\1\0\0\0a", 9, true},  {"\1\0\0\0\x14\0\0\0blk.0.at", 16, true},
                 {"\1\0\0\0\1\0\0\0", 8, false},  {"\0\0\0\0\1\0\0\0a", 9, false},
                 {"\1\0\0\0\0\0\0\0{", 9, false}, {"\1\0\0\0\1\0\0\0\n", 9, false},
                 {"PK\3\4\1\0\0\0a", 9, false},   {"version https://", 16, false},
                 {"\1\0\0\0\0\1\0\0a", 9, false}};
    for (size_t i = 0; i < LB_LEN(cases); i++)
        CHECK(lb_imatrix_probe((const u8 *)cases[i].head, cases[i].n) == cases[i].is);
}

/* ---- of a model ---- */

static void check_match(const char *file, const lb_imatrix_tensor *t, u64 n, u64 n_used, u64 n_left,
                        const char *says) {
    lb_source *s = NULL;
    lb_imatrix_match m;
    CHECK_OK(lb_imatrix_open(&s, golden(file), &err));
    lb_status st = lb_imatrix_match_model(s, t, n, &m, &err);
    if (says ? st != LB_E_FORMAT || !strstr(err.msg, says) || !strstr(err.msg, "another model")
             : st != LB_OK || m.n_used != n_used || m.n_left != n_left)
        lb_test_fail(__FILE__, __LINE__, "%s, expected %s: %s, %s", file, says ? says : "a match",
                     lb_status_text(st), err.msg);
    lb_source_close(&s);
}

LB_TEST(of_a_model) {
    lb_imatrix_tensor t[] = {
        {LB_STR("token_embd.weight"), {2, {100, 12}}},
        {LB_STR("output.weight"), {2, {100, 12}}},
        {LB_STR("blk.0.attn_norm.weight"), {1, {12}}},
        {LB_STR("blk.0.attn_q.weight"), {2, {8, 12}}},
        {LB_STR("blk.0.attn_k.weight"), {2, {8, 12}}}, /* without an entry: allowed */
        {LB_STR("blk.0.ffn_down_exps.weight"), {3, {4, 12, 6}}},
        {LB_STR("blk.1.attn_k_b.weight"), {3, {4, 9, 6}}},
        {LB_STR("blk.1.ffn_up.weight"), {2, {9, 5}}},
        {LB_STR("blk.10.attn_q.weight"), {2, {9, 7}}},
    };
    const u64 n = LB_LEN(t);
    check_match("tool.gguf", t, n, 6, 0, NULL);
    check_match("tool.dat", t, n, 5, 0, NULL);
    t[3].shape.dim[1] = 13;
    check_match("tool.gguf", t, n, 0, 0,
                "'blk.0.attn_q.weight' has 12 values and 1 count, the model's is [8, 13]");
    t[3].shape.dim[1] = 12;
    t[5].shape = (lb_shape){3, {6, 12, 4}}; /* as many values, of other experts */
    check_match("tool.gguf", t, n, 0, 0, "'blk.0.ffn_down_exps.weight' has 24 values and 4 counts");
    check_match("tool.dat", t, n, 5, 0, NULL); /* the legacy form does not tell */
    t[5].shape = (lb_shape){3, {4, 12, 6}};
    t[8].name = LB_STR("blk.9.attn_q.weight");
    check_match("tool.gguf", t, n, 0, 0, "it has 'blk.10.attn_q.weight', the model has not");
    t[8].name = LB_STR("blk.10.attn_q.weight");
    /* tied and untied heads */
    t[1].name = LB_STR("x");
    check_match("tool.gguf", t, n, 5, 1, NULL);
    t[1].name = LB_STR("output.weight");
    t[1].shape.dim[1] = 13;
    check_match("tool.gguf", t, n, 0, 0, "'output.weight' has 12 values");
    t[1].shape.dim[1] = 12;
    /* one block more */
    lb_imatrix_tensor more[LB_LEN(t) + 2];
    memcpy(more, t, sizeof t);
    more[n] = (lb_imatrix_tensor){LB_STR("blk.11.attn_q.weight"), {2, {9, 7}}};
    more[n + 1] = (lb_imatrix_tensor){LB_STR("blk.11.ffn_up.weight"), {2, {9, 7}}};
    check_match("tool.gguf", more, n + 2, 0, 0, "'blk.11.attn_q.weight' nor");
    more[n + 1].name = LB_STR("blk.11.nextn.eh_proj.weight");
    check_match("tool.gguf", more, n + 2, 6, 0, NULL);
    more[n].shape.rank = more[n + 1].shape.rank = 1;
    more[n + 1].name = LB_STR("blk.11.b");
    check_match("tool.gguf", more, n + 2, 6, 0, NULL);
    check_match("tool.gguf", t, 0, 0, 0, "'blk.0.attn_q.weight', the model has not");
}

LB_TEST(nothing_of_use) {
    lb_source *s = NULL;
    lb_imatrix_match m;
    lb_buf b = {0};
    part p[] = {{"token_embd.weight.in_sum2", 1, {4}, 0, 1},
                {"token_embd.weight.counts", 1, {1}, 0, 1}};
    lb_imatrix_tensor t = {LB_STR("token_embd.weight"), {2, {9, 5}}};
    build(&b, p, 2, 0);
    CHECK_OK(lb_imatrix_open(&s, gb_save(&b, lb_test_dir(), "e.gguf"), &err));
    CHECK(lb_imatrix_match_model(s, &t, 1, &m, &err) == LB_E_FORMAT);
    CHECK(m.n_left == 1 && strstr(err.msg, "no entry is for a tensor of the model"));
    lb_source_close(&s);
    lb_buf_deinit(&b);
}

LB_TEST_MAIN("fast")
