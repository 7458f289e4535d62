/* SPDX-License-Identifier: Apache-2.0 */
/* test_source.c: the type table, shapes, and the checks of a source's lists. */
#include "test.h"
#include "base/os.h"
#include "tensor/source.h"

/* {id, elements, bytes} of a block: GGML_QUANT_SIZES of the Python package gguf 0.19.0, but for
 * Q8_1 (9), where it says 40 and ggml's own block_q8_1 has 36: two halves and 32 bytes. */
static const u32 ggml_sizes[][3] = {
    {0, 1, 4},      {1, 1, 2},     {2, 32, 18},    {3, 32, 20},    {6, 32, 22},    {7, 32, 24},
    {8, 32, 34},    {10, 256, 84}, {11, 256, 110}, {12, 256, 144}, {13, 256, 176}, {14, 256, 210},
    {15, 256, 292}, {16, 256, 66}, {17, 256, 74},  {18, 256, 98},  {19, 256, 50},  {20, 32, 18},
    {21, 256, 110}, {22, 256, 82}, {23, 256, 136}, {24, 1, 1},     {25, 1, 2},     {26, 1, 4},
    {27, 1, 8},     {28, 1, 8},    {29, 256, 56},  {30, 1, 2},     {34, 256, 54},  {35, 256, 66},
    {39, 32, 17},   {40, 64, 36},  {41, 128, 18}};

LB_TEST(dtype_sizes) {
    lb_dtype t;
    for (size_t i = 0; i < LB_LEN(ggml_sizes); i++) {
        CHECK(lb_dtype_find_ggml(ggml_sizes[i][0], &t));
        CHECK_U64(lb_dtype_get(t)->block_elems, ggml_sizes[i][1]);
        CHECK_U64(lb_dtype_get(t)->block_bytes, ggml_sizes[i][2]);
    }
}

/* Every row is found by its names; bytes of whole blocks; removed ids. */
LB_TEST(dtype_table) {
    lb_dtype t;
    u64 n = 0;
    for (int i = 0; i < LB_DTYPE_COUNT; i++) {
        const lb_dtype_info *d = lb_dtype_get((lb_dtype)i);
        CHECK(lb_dtype_find(lb_str_c(d->name), &t) && t == (lb_dtype)i);
        if (d->safetensors)
            CHECK(lb_dtype_find_safetensors(lb_str_c(d->safetensors), &t) && t == (lb_dtype)i);
        if (d->ggml >= 0) {
            CHECK(lb_dtype_find_ggml((u32)d->ggml, &t) && t == (lb_dtype)i);
            CHECK(!lb_dtype_ggml_removed((u32)d->ggml));
        }
        CHECK(lb_dtype_bytes((lb_dtype)i, d->block_elems * 7, &n) && n == d->block_bytes * 7);
        CHECK(d->block_elems == 1 || !lb_dtype_bytes((lb_dtype)i, d->block_elems + 1, &n));
        CHECK(d->block_bytes == 1 || d->block_elems > 1 ||
              !lb_dtype_bytes((lb_dtype)i, UINT64_MAX, &n));
    }
    CHECK(lb_dtype_find(LB_STR("Q4_K"), &t) && t == LB_Q4_K);
    CHECK(lb_dtype_find(LB_STR("BF16"), &t) && t == LB_BF16);
    CHECK(!lb_dtype_find(LB_STR("q4_"), &t) && !lb_dtype_find(LB_STR(""), &t));
    CHECK(!lb_dtype_find_safetensors(LB_STR("bf16"), &t));
    for (u32 id = 0; id < 43; id++) /* every id below ggml's count is known or was removed */
        CHECK(lb_dtype_find_ggml(id, &t) != (lb_dtype_ggml_removed(id) != NULL));
    CHECK(!lb_dtype_find_ggml(43, &t) && !lb_dtype_find_ggml(UINT32_MAX, &t));
    CHECK(!lb_dtype_ggml_removed(43));
    CHECK(!lb_dtype_bytes(LB_F64, UINT64_MAX / 8 + 1, &n));
    CHECK(lb_dtype_bytes(LB_F4, 6, &n) && n == 3);
    CHECK(lb_dtype_bytes(LB_F6_E2M3, 8, &n) && n == 6);
}

LB_TEST(shapes) {
    u64 n = 9;
    char text[LB_SHAPE_TEXT];
    lb_shape s = {0};
    CHECK(lb_shape_elems(&s, &n) && n == 1);
    CHECK_STR(lb_str_c(lb_shape_text(&s, text)), "[]");
    s = (lb_shape){.rank = 2, .dim = {2, 3}};
    CHECK(lb_shape_elems(&s, &n) && n == 6);
    CHECK_STR(lb_str_c(lb_shape_text(&s, text)), "[2, 3]");
    lb_shape t = {.rank = 2, .dim = {2, 3, 4}};
    CHECK(lb_shape_eq(&s, &t));
    t.rank = 3;
    CHECK(!lb_shape_eq(&s, &t));
    t = (lb_shape){.rank = 2, .dim = {3, 2}};
    CHECK(!lb_shape_eq(&s, &t));
    s = (lb_shape){.rank = 3, .dim = {0, 5, 7}};
    CHECK(lb_shape_elems(&s, &n) && n == 0);
    s = (lb_shape){.rank = 2, .dim = {(u64)1 << 32, (u64)1 << 32}};
    CHECK(!lb_shape_elems(&s, &n) && n == 0);
    s = (lb_shape){.rank = 3, .dim = {(u64)1 << 32, 0, (u64)1 << 32}};
    CHECK(!lb_shape_elems(&s, &n));
    s.rank = LB_RANK_MAX;
    for (int i = 0; i < LB_RANK_MAX; i++)
        s.dim[i] = UINT64_MAX;
    lb_shape_text(&s, text);
    CHECK(strlen(text) == 176 && text[175] == ']');
}

static const char *make_file(const char *name, u64 size_bytes) {
    static char path[400];
    int fd;
    lb_err err = {0};
    snprintf(path, sizeof path, "%s/%s", lb_test_dir(), name);
    if (lb_os_open_write(path, false, &fd, &err) != LB_OK ||
        lb_os_truncate(fd, path, size_bytes, &err) != LB_OK)
        lb_test_fail(__FILE__, __LINE__, "%s", err.msg);
    lb_os_close(&fd);
    return path;
}

static lb_tensor tensor(const char *name, lb_dtype t, lb_shape shape, u64 off, u64 size) {
    return (lb_tensor){.name = lb_str_c(name),
                       .dtype = t,
                       .shape = shape,
                       .off_bytes = off,
                       .size_bytes = size,
                       .n_elems = 77};
}

LB_TEST(tensor_checks) {
    lb_err err = {0};
    u32 file = 9;
    lb_source *s = lb_source_new(LB_FORMAT_GGUF, "some/dir/m.gguf/");
    CHECK(s);
    CHECK_STR(s->label, "m.gguf");
    CHECK_OK(lb_source_add_file(s, make_file("a", 1000), LB_STR("a"), &file, &err));
    CHECK(file == 0 && s->n_files == 1 && s->files[0].size_bytes == 1000);
    static const lb_shape sh4 = {1, {4}}, sh256 = {2, {1, 256}}, sh64 = {2, {4, 64}},
                          none = {0, {0}}, huge = {2, {(u64)1 << 40, (u64)1 << 40}},
                          wide = {1, {(u64)1 << 62}}, empty = {2, {0, 256}}, odd = {1, {3}},
                          blocks = {2, {2, 48}};
    struct {
        lb_tensor t;
        const char *say; /* NULL: accepted */
    } cases[] = {
        {tensor("f", LB_F32, sh4, 0, 16), NULL},
        {tensor("end", LB_F32, sh4, 984, 16), NULL},
        {tensor("scalar", LB_F16, none, 998, 2), NULL},
        {tensor("block", LB_Q4_K, sh256, 0, 144), NULL},
        {tensor("none", LB_Q4_K, empty, 1000, 0), NULL},
        {tensor("f", LB_F32, sh4, 16, 16), "named twice"},
        {tensor("x", LB_F32, sh4, 985, 16), "past the file's end"},
        {tensor("x", LB_F32, sh4, UINT64_MAX - 3, 16), "past the file's end"},
        {tensor("x", LB_F32, sh4, 0, 15), "needs 16 bytes, its range has 15"},
        {tensor("x", LB_F32, sh4, 0, 20), "needs 16 bytes"},
        {tensor("x", LB_F32, huge, 0, 0), "more than 2^64 elements"},
        {tensor("x", LB_F32, wide, 0, 0), "more than 2^64"},
        {tensor("x", LB_Q4_K, sh64, 0, 144), "rows of 64 elements"},
        {tensor("x", LB_Q4_0, blocks, 0, 54), "rows of 48 elements"},
        {tensor("x", LB_Q4_0, none, 0, 18), "rows of 1 elements"},
        {tensor("x", LB_F4, odd, 0, 2), "no whole number of bytes"},
        {tensor("x", LB_F32, (lb_shape){9, {1}}, 0, 4), "9 dimensions"},
    };
    u64 n = 0, pos;
    for (size_t i = 0; i < LB_LEN(cases); i++) {
        lb_status st = lb_source_add_tensor(s, &cases[i].t, &err);
        if (!cases[i].say) {
            CHECK_OK(st);
            n++;
            continue;
        }
        CHECK(st == LB_E_FORMAT || st == LB_E_LIMIT);
        if (!lb_str_find(lb_str_c(err.msg), lb_str_c(cases[i].say), &pos))
            lb_test_fail(__FILE__, __LINE__, "case %d: %s", (int)i, err.msg);
    }
    CHECK_U64(s->n_tensors, n);
    const lb_tensor *t = lb_source_tensor(s, LB_STR("block"));
    CHECK(t && t->n_elems == 256);
    CHECK(lb_source_tensor(s, LB_STR("scalar"))->n_elems == 1);
    CHECK(lb_source_tensor(s, LB_STR("none"))->n_elems == 0);
    CHECK(!lb_source_tensor(s, LB_STR("x")));
    lb_source_close(&s);
    CHECK(!s);
    lb_source_close(&s);
}

LB_TEST(file_checks) {
    lb_err err = {0};
    u32 file;
    lb_source *s = lb_source_new(LB_FORMAT_HF, ".");
    const char *path = make_file("b", 10);
    CHECK(lb_source_add_file(s, path, LB_STR("../b"), &file, &err) == LB_E_FORMAT);
    CHECK(lb_source_add_file(s, path, LB_STR(""), &file, &err) == LB_E_FORMAT);
    CHECK(lb_source_add_file(s, "/nonexistent/x", LB_STR("x"), &file, &err) == LB_E_NOT_FOUND);
    CHECK(lb_source_add_file(s, lb_test_dir(), LB_STR("d"), &file, &err) == LB_E_FORMAT);
    CHECK_U64(s->n_files, 0);
    CHECK_OK(lb_source_add_file(s, path, LB_STR("b"), &file, &err));
    lb_source_close(&s);
}

/* n files, tensors and weights: lists grow and everything is found again. */
static lb_status fill(lb_source *s, const char *path, u32 n, lb_err *err) {
    for (u32 i = 0; i < n; i++) {
        u32 file;
        lb_str name = lb_arena_printf(&s->perm, "t%u", i);
        if (!name.ptr)
            return lb_fail(err, LB_E_NOMEM, "out of memory");
        LB_TRY(lb_source_add_file(s, path, name, &file, err));
        lb_tensor t = {.name = name,
                       .dtype = LB_U8,
                       .shape = {1, {1}},
                       .file = file,
                       .off_bytes = i,
                       .size_bytes = 1};
        LB_TRY(lb_source_add_tensor(s, &t, err));
        lb_weight w = {.name = name, .shape = t.shape, .n_parts = 1, .part = {i}};
        LB_TRY(lb_source_add_weight(s, &w, err));
    }
    return LB_OK;
}

LB_TEST(lists_grow) {
    enum { N = 1000 };
    lb_err err = {0};
    const char *path = make_file("c", N);
    lb_source *s = lb_source_new(LB_FORMAT_HF, "m");
    CHECK_OK(fill(s, path, N, &err));
    CHECK(s->n_files == N && s->n_tensors == N && s->n_weights == N);
    for (u32 i = 0; i < N; i++) {
        char name[20];
        snprintf(name, sizeof name, "t%u", i);
        const lb_tensor *t = lb_source_tensor(s, lb_str_c(name));
        const lb_weight *w = lb_source_weight(s, lb_str_c(name));
        CHECK(t && t->off_bytes == i && t->file == i && w && w->part[0] == i);
        CHECK_STR(s->files[i].name, name);
    }
    lb_weight again = s->weights[3];
    CHECK(lb_source_add_weight(s, &again, &err) == LB_E_FORMAT);
    CHECK_U64(s->n_weights, N);
    lb_side_file sides[] = {{.name = LB_STR("a"), .path = ""},
                            {.name = LB_STR("b"), .bytes = LB_STR("made")},
                            {.name = LB_STR("c"), .path = ""}};
    s->sides = sides;
    s->n_sides = 3;
    CHECK(lb_source_side(s, LB_STR("a")) == &sides[0] &&
          lb_source_side(s, LB_STR("c")) == &sides[2]);
    CHECK(!lb_source_side(s, LB_STR("bb")) && !lb_source_side(s, LB_STR("")));
    lb_str made;
    lb_cur c;
    CHECK(lb_side_read(&sides[1], 4, &s->perm, &made, &err) == LB_OK);
    CHECK_STR(made, "made");
    CHECK(lb_side_open(&c, &sides[1], &err) == LB_OK && lb_cur_left(&c) == 4);
    lb_cur_close(&c);
    lb_source_close(&s);
}

/* Whichever allocation fails: an error, no crash, no leak. */
LB_TEST(allocation_failures) {
    const char *path = make_file("d", 200);
    u64 n_failed = 0;
    for (u64 n = 1; n <= 2000; n++) {
        lb_err err = {0};
        u64 before = lb_mem_count();
        lb_mem_fail_at(n);
        lb_source *s = lb_source_new(LB_FORMAT_HF, "m");
        lb_status st = s ? fill(s, path, 120, &err) : LB_E_NOMEM;
        lb_mem_fail_at(0);
        bool reached = lb_mem_count() - before >= n;
        CHECK(st == (reached ? LB_E_NOMEM : LB_OK));
        n_failed += reached;
        lb_source_close(&s);
    }
    CHECK(n_failed >= 20);
}

LB_TEST(format_names) {
    CHECK_STR(lb_str_c(lb_format_name(LB_FORMAT_SAFETENSORS)), "safetensors");
    CHECK_STR(lb_str_c(lb_format_name(LB_FORMAT_GGUF)), "gguf");
}

LB_TEST_MAIN("fast")
