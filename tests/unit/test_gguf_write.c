/* SPDX-License-Identifier: Apache-2.0 */
/* test_gguf_write.c: headers equal to gguf-py's byte for byte; what is written is read back. */
#include "format/gguf_write.h"
#include "base/os.h"
#include "gguf_build.h"
#include "test.h"
#include <math.h>

static lb_err err;
static lb_arena perm;
static lb_gguf_layout out;

static lb_status plan(const lb_gguf_meta *m, lb_gguf_item *items, u64 n, lb_gguf_layout_opts opts) {
    opts.meta = m;
    if (!opts.stem.ptr)
        opts.stem = LB_STR("model");
    err = (lb_err){0};
    return lb_gguf_layout_plan(items, n, &opts, &perm, &out, &err);
}

static bool load(const char *name, lb_str *file, lb_gguf_dir *dir) {
    char rel[128];
    lb_cur c;
    (void)snprintf(rel, sizeof rel, "gguf/%s.gguf", name);
    if (lb_os_read_file(lb_test_golden(rel), LB_MIB, &perm, file, &err) != LB_OK)
        return false;
    lb_cur_mem(&c, name, file->ptr, file->len);
    *dir = (lb_gguf_dir){.perm = &perm, .scratch = &perm};
    return lb_gguf_parse(&c, dir, &err) == LB_OK;
}

static lb_gguf_item *items_of(const lb_gguf_dir *dir) {
    lb_gguf_item *items = lb_arena_new(&perm, lb_gguf_item, dir->n_tensors + 1);
    for (u64 i = 0; items && i < dir->n_tensors; i++) {
        const lb_tensor *t = &dir->tensors[i];
        items[i] = (lb_gguf_item){.name = t->name, .dtype = t->dtype, .shape = t->shape};
    }
    return items;
}

/* Parsing a file of gguf-py and planning the same content gives the same header and size. */
LB_TEST(headers_of_gguf_py) {
    static const char *const names[] = {"values",    "types",  "align8",     "align32", "align64",
                                        "align4096", "shapes", "no_tensors", "nvfp4"};
    for (size_t i = 0; i < LB_LEN(names); i++) {
        lb_str file;
        lb_gguf_dir dir;
        CHECK(load(names[i], &file, &dir));
        lb_gguf_item *items = items_of(&dir);
        CHECK_OK(plan(&dir.meta, items, dir.n_tensors,
                      (lb_gguf_layout_opts){.stem = lb_str_c(names[i])}));
        CHECK_U64(out.n_files, 1);
        CHECK_U64(out.files[0].size_bytes, file.len);
        CHECK(lb_str_eq(out.files[0].header, lb_str_sub(file, 0, out.files[0].header.len)));
        CHECK_U64(out.files[0].n_items, dir.n_tensors);
        CHECK(lb_str_ends(out.files[0].name, LB_STR(".gguf")));
        u64 total = 0;
        for (u64 t = 0; t < dir.n_tensors; t++) {
            CHECK_U64(items[t].off_bytes, dir.tensors[t].off_bytes);
            CHECK_U64(items[t].size_bytes, dir.tensors[t].size_bytes);
            CHECK_U64(items[t].file, 0);
            total += items[t].size_bytes;
        }
        CHECK_U64(out.total_bytes, total);
        lb_arena_reset(&perm);
    }
}

/* The pairs of make_gguf.py's add_values, set one by one: nothing passes through the parser. */
static lb_status set_scalars(lb_gguf_meta *m) {
    static const lb_gguf_kv kv[] = {
        {.key = {"t.u8", 4}, .type = LB_GGUF_U8, .v.u = 255},
        {.key = {"t.i8", 4}, .type = LB_GGUF_I8, .v.i = -128},
        {.key = {"t.u16", 5}, .type = LB_GGUF_U16, .v.u = 65535},
        {.key = {"t.i16", 5}, .type = LB_GGUF_I16, .v.i = -32768},
        {.key = {"t.u32", 5}, .type = LB_GGUF_U32, .v.u = UINT32_MAX},
        {.key = {"t.i32", 5}, .type = LB_GGUF_I32, .v.i = INT32_MIN},
        {.key = {"t.u64", 5}, .type = LB_GGUF_U64, .v.u = UINT64_MAX},
        {.key = {"t.i64", 5}, .type = LB_GGUF_I64, .v.i = INT64_MIN},
        {.key = {"t.f32", 5}, .type = LB_GGUF_F32, .v.f = 0.1f},
        {.key = {"t.f64", 5}, .type = LB_GGUF_F64, .v.f = 0.1},
        {.key = {"t.yes", 5}, .type = LB_GGUF_BOOL, .v.u = 1},
        {.key = {"t.no", 4}, .type = LB_GGUF_BOOL, .v.u = 0},
    };
    for (size_t i = 0; i < LB_LEN(kv); i++)
        LB_TRY(lb_meta_set(m, &kv[i], &err));
    LB_TRY(lb_meta_set_str(
        m, "t.str", LB_STR("text with \xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80 and \"quotes\"\n"),
        &err));
    LB_TRY(lb_meta_set_str(m, "t.empty", LB_STR_NONE, &err));
    return lb_meta_set_str(m, "t.bytes", LB_STR("\x00\xff\x00not utf-8"), &err);
}

static lb_status set_arrays(lb_gguf_meta *m) {
    char xs[300];
    memset(xs, 'x', sizeof xs);
    lb_str words[] = {LB_STR(""), LB_STR("a"), LB_STR("\xc3\xa9"), {xs, sizeof xs}};
    LB_TRY(lb_meta_set_array(m, "a.u8", LB_GGUF_U8, 3, (u8[]){0, 1, 255}, &err));
    LB_TRY(lb_meta_set_array(m, "a.i8", LB_GGUF_I8, 2, (i8[]){-128, 127}, &err));
    LB_TRY(lb_meta_set_array(m, "a.u16", LB_GGUF_U16, 1, (u16[]){65535}, &err));
    LB_TRY(lb_meta_set_array(m, "a.i16", LB_GGUF_I16, 2, (i16[]){-1, 1}, &err));
    LB_TRY(lb_meta_set_array(m, "a.u32", LB_GGUF_U32, 3, (u32[]){1, 2, 3}, &err));
    LB_TRY(lb_meta_set_array(m, "a.i32", LB_GGUF_I32, 2, (i32[]){-5, 5}, &err));
    LB_TRY(lb_meta_set_array(m, "a.u64", LB_GGUF_U64, 1, (u64[]){UINT64_MAX}, &err));
    LB_TRY(lb_meta_set_array(m, "a.i64", LB_GGUF_I64, 1, (i64[]){INT64_MIN}, &err));
    LB_TRY(lb_meta_set_array(m, "a.f32", LB_GGUF_F32, 3, (float[]){0.5f, -0.0f, INFINITY}, &err));
    LB_TRY(lb_meta_set_array(m, "a.f64", LB_GGUF_F64, 2, (double[]){1e300, 5e-324}, &err));
    LB_TRY(lb_meta_set_array(m, "a.bool", LB_GGUF_BOOL, 3, (u8[]){1, 0, 1}, &err));
    return lb_meta_set_array(m, "a.str", LB_GGUF_STR, 4, words, &err);
}

LB_TEST(every_value_type) {
    lb_gguf_meta m;
    lb_str file;
    lb_gguf_dir dir;
    lb_gguf_item item = {LB_STR("token_embd.weight"), LB_F32, {2, {2, 3}}, 0, 0, 0};
    CHECK(load("values", &file, &dir));
    lb_meta_init(&m, &perm);
    CHECK_OK(lb_meta_set_str(&m, "general.architecture", LB_STR("llama"), &err));
    CHECK_OK(set_scalars(&m));
    CHECK_OK(set_arrays(&m));
    CHECK_OK(plan(&m, &item, 1, (lb_gguf_layout_opts){0}));
    CHECK(lb_str_eq(out.files[0].header, lb_str_sub(file, 0, out.files[0].header.len)));
    CHECK_U64(out.files[0].size_bytes, file.len);
    CHECK_STR(out.files[0].name, "model.gguf");
    lb_meta_deinit(&m);
    lb_arena_deinit(&perm);
}

/* ---- fields ---- */

LB_TEST(fields_are_where_they_are_said_to_be) {
    static const char *const fields[] = {"lbrx.digest", "second"};
    lb_gguf_meta m;
    lb_gguf_item item = {LB_STR("t"), LB_F32, {1, {8}}, 0, 0, 0};
    lb_meta_init(&m, &perm);
    CHECK_OK(lb_meta_set_u32(&m, "a", 1, &err));
    CHECK_OK(lb_meta_set_u32(&m, "split.no", 7, &err)); /* left out: does not shift the places */
    CHECK_OK(lb_meta_set_str(&m, "lbrx.digest", LB_STR("00000000"), &err));
    CHECK_OK(lb_meta_set_array(&m, "x", LB_GGUF_STR, 1, &LB_STR("y"), &err));
    CHECK_OK(lb_meta_set_str(&m, "second", LB_STR("##"), &err));
    CHECK_OK(plan(&m, &item, 1, (lb_gguf_layout_opts){.fields = fields, .n_fields = 2}));
    lb_str h = out.files[0].header;
    CHECK(memcmp(h.ptr + out.field_off[0], "00000000", 8) == 0);
    CHECK(memcmp(h.ptr + out.field_off[1], "##", 2) == 0);
    char *bytes = lb_alloc(out.files[0].size_bytes);
    CHECK(bytes != NULL);
    memset(bytes, 0, out.files[0].size_bytes);
    memcpy(bytes, h.ptr, h.len);
    memcpy(bytes + out.field_off[0], "deadbeef", 8);
    memcpy(bytes + out.field_off[1], "ok", 2);
    lb_cur c;
    lb_gguf_dir dir = {.perm = &perm, .scratch = &perm};
    lb_cur_mem(&c, "memory", bytes, out.files[0].size_bytes);
    CHECK_OK(lb_gguf_parse(&c, &dir, &err));
    lb_str s;
    CHECK(lb_kv_as_str(lb_meta_find(&dir.meta, "lbrx.digest"), &s));
    CHECK_STR(s, "deadbeef");
    CHECK(lb_kv_as_str(lb_meta_find(&dir.meta, "second"), &s));
    CHECK_STR(s, "ok");
    CHECK(lb_meta_find(&dir.meta, "split.no") == NULL);
    lb_free(bytes);
    static const char *const missing[] = {"absent"}, *const number[] = {"a"};
    CHECK(plan(&m, &item, 1, (lb_gguf_layout_opts){.fields = missing, .n_fields = 1}) ==
          LB_E_NOT_FOUND);
    CHECK(plan(&m, &item, 1, (lb_gguf_layout_opts){.fields = number, .n_fields = 1}) ==
          LB_E_NOT_FOUND);
    lb_meta_deinit(&m);
    lb_arena_deinit(&perm);
}

/* ---- refusals ---- */

static lb_status plan_one(lb_gguf_item item) {
    lb_gguf_meta m;
    lb_meta_init(&m, &perm);
    lb_status st = plan(&m, &item, 1, (lb_gguf_layout_opts){0});
    lb_meta_deinit(&m);
    lb_arena_reset(&perm);
    return st;
}

LB_TEST(refused) {
    char name[65];
    memset(name, 'n', sizeof name);
    CHECK(plan_one((lb_gguf_item){LB_STR("t"), LB_F32, {1, {3}}, 0, 0, 0}) == LB_OK);
    CHECK(plan_one((lb_gguf_item){{name, 63}, LB_F32, {1, {3}}, 0, 0, 0}) == LB_OK);
    CHECK(plan_one((lb_gguf_item){{name, 64}, LB_F32, {1, {3}}, 0, 0, 0}) == LB_E_FORMAT);
    CHECK(plan_one((lb_gguf_item){LB_STR(""), LB_F32, {1, {3}}, 0, 0, 0}) == LB_E_FORMAT);
    CHECK(plan_one((lb_gguf_item){LB_STR("\xff"), LB_F32, {1, {3}}, 0, 0, 0}) == LB_E_FORMAT);
    CHECK(plan_one((lb_gguf_item){LB_STR("a\0b"), LB_F32, {1, {3}}, 0, 0, 0}) == LB_E_FORMAT);
    CHECK(plan_one((lb_gguf_item){LB_STR("t"), LB_U8, {1, {3}}, 0, 0, 0}) == LB_E_UNSUPPORTED);
    CHECK(strstr(err.msg, "GGUF has no type u8") != NULL);
    CHECK(plan_one((lb_gguf_item){LB_STR("t"), LB_F32, {5, {1, 1, 1, 1, 1}}, 0, 0, 0}) ==
          LB_E_UNSUPPORTED);
    CHECK(plan_one((lb_gguf_item){LB_STR("t"), LB_Q4_0, {2, {32, 31}}, 0, 0, 0}) == LB_E_FORMAT);
    CHECK(plan_one((lb_gguf_item){LB_STR("t"), LB_Q4_0, {0, {0}}, 0, 0, 0}) == LB_E_FORMAT);
    CHECK(plan_one((lb_gguf_item){LB_STR("t"), LB_I8, {1, {UINT64_MAX}}, 0, 0, 0}) == LB_E_LIMIT);
    CHECK(plan_one((lb_gguf_item){LB_STR("t"), LB_I8, {1, {INT64_MAX}}, 0, 0, 0}) == LB_E_LIMIT);
    CHECK(plan_one((lb_gguf_item){
              LB_STR("t"), LB_F32, {2, {(u64)1 << 32, (u64)1 << 31}}, 0, 0, 0}) == LB_E_LIMIT);
    CHECK(plan_one((lb_gguf_item){LB_STR("t"), LB_F32, {1, {(u64)1 << 61}}, 0, 0, 0}) ==
          LB_E_LIMIT);
    CHECK(plan_one((lb_gguf_item){LB_STR("t"), LB_F32, {1, {(u64)1 << 60}}, 0, 0, 0}) == LB_OK);
    lb_gguf_meta m;
    lb_gguf_item two[] = {{LB_STR("t"), LB_F32, {1, {(u64)1 << 60}}, 0, 0, 0},
                          {LB_STR("t"), LB_F32, {1, {(u64)1 << 60}}, 0, 0, 0}};
    lb_meta_init(&m, &perm);
    CHECK(plan(&m, two, 2, (lb_gguf_layout_opts){0}) == LB_E_FORMAT);
    CHECK(strstr(err.msg, "'t' appears twice") != NULL);
    two[1].name = LB_STR("u"); /* 2^63 bytes together */
    CHECK(plan(&m, two, 2, (lb_gguf_layout_opts){0}) == LB_E_LIMIT);
    two[1].shape.dim[0] = 1;
    for (u32 align = 0; align < 100; align++) {
        CHECK_OK(lb_meta_set_u32(&m, "general.alignment", align, &err));
        bool good = align > 0 && (align & (align - 1)) == 0;
        CHECK(plan(&m, two, 2, (lb_gguf_layout_opts){0}) == (good ? LB_OK : LB_E_FORMAT));
        CHECK(!good || two[0].off_bytes % align == 0);
    }
    CHECK_OK(lb_meta_set_u32(&m, "general.alignment", 1u << 20, &err));
    CHECK_OK(plan(&m, two, 2, (lb_gguf_layout_opts){0}));
    CHECK_OK(lb_meta_set_u32(&m, "general.alignment", 1u << 21, &err));
    CHECK(plan(&m, two, 2, (lb_gguf_layout_opts){0}) == LB_E_LIMIT);
    CHECK_OK(lb_meta_set_u64(&m, "general.alignment", 32, &err));
    CHECK(plan(&m, two, 2, (lb_gguf_layout_opts){0}) == LB_E_FORMAT);
    lb_meta_deinit(&m);
    lb_arena_deinit(&perm);
}

/* ---- what is written is read back ---- */

static const lb_dtype gguf_types[] = {LB_F32,   LB_F16,   LB_BF16, LB_F64,  LB_I8,
                                      LB_I64,   LB_Q4_0,  LB_Q8_0, LB_Q4_K, LB_IQ1_S,
                                      LB_MXFP4, LB_NVFP4, LB_Q1_0, LB_TQ1_0};

/* A model of up to 40 tensors with names and shapes drawn at random; zero dims and rank 0 included.
 */
static u64 random_items(lb_gguf_item *items) {
    u64 n = lb_test_rand_below(41);
    for (u64 i = 0; i < n; i++) {
        lb_gguf_item *t = &items[i];
        *t = (lb_gguf_item){.dtype = gguf_types[lb_test_rand_below(LB_LEN(gguf_types))]};
        t->name =
            lb_arena_printf(&perm, "blk.%u.%0*u", (unsigned)i, (int)lb_test_rand_below(50) + 1, 7u);
        u64 block = lb_dtype_get(t->dtype)->block_elems;
        t->shape.rank = (u32)lb_test_rand_below(5);
        if (block > 1 && t->shape.rank == 0)
            t->shape.rank = 1;
        for (u32 d = 0; d < t->shape.rank; d++)
            t->shape.dim[d] = lb_test_rand_below(6);
        if (t->shape.rank > 0)
            t->shape.dim[t->shape.rank - 1] *= block;
    }
    return n;
}

static lb_status random_meta(lb_gguf_meta *m) {
    lb_meta_init(m, &perm);
    if (lb_test_rand_below(2))
        LB_TRY(lb_meta_set_u32(m, "general.alignment", 1u << lb_test_rand_below(13), &err));
    LB_TRY(set_scalars(m));
    return lb_test_rand_below(2) ? set_arrays(m) : LB_OK;
}

/* Files of the planned sizes with only their headers written: the rest is holes. */
static bool write_headers(const char *dir) {
    for (u32 i = 0; i < out.n_files; i++) {
        const char *path = lb_os_join(&perm, dir, out.files[i].name);
        int fd = -1;
        (void)lb_os_unlink(path, NULL);
        bool ok = lb_os_open_write(path, true, &fd, &err) == LB_OK &&
                  lb_os_pwrite(fd, path, out.files[i].header.ptr, out.files[i].header.len, 0,
                               &err) == LB_OK &&
                  lb_os_truncate(fd, path, out.files[i].size_bytes, &err) == LB_OK;
        lb_os_close(&fd);
        if (!ok)
            return false;
    }
    return true;
}

static bool same_model(const lb_source *s, const lb_gguf_meta *m, const lb_gguf_item *items,
                       u64 n) {
    lb_buf a = {0}, b = {0};
    gb_dump_meta(&a, m);
    gb_dump_meta(&b, s->gguf);
    bool same =
        lb_str_eq(lb_buf_str(&a), lb_buf_str(&b)) && s->n_tensors == n && s->n_files == out.n_files;
    lb_buf_deinit(&a);
    lb_buf_deinit(&b);
    for (u64 i = 0; same && i < n; i++) {
        const lb_tensor *t = &s->tensors[i];
        same = lb_str_eq(t->name, items[i].name) && t->dtype == items[i].dtype &&
               lb_shape_eq(&t->shape, &items[i].shape) && t->file == items[i].file &&
               t->off_bytes == items[i].off_bytes && t->size_bytes == items[i].size_bytes;
    }
    return same;
}

LB_TEST(read_back) {
    lb_gguf_item items[41];
    u64 n_split = 0;
    for (int k = 0; k < 300; k++) {
        lb_gguf_meta m;
        lb_source *s = NULL;
        u64 n = random_items(items);
        CHECK_OK(random_meta(&m));
        lb_gguf_layout_opts opts = {.first_no_tensors = lb_test_rand_below(4) == 0};
        if (lb_test_rand_below(2))
            opts.max_file_bytes = 1 + lb_test_rand_below(8000);
        CHECK_OK(plan(&m, items, n, opts));
        CHECK(write_headers(lb_test_dir()));
        CHECK_OK(lb_gguf_open(&s, lb_os_join(&perm, lb_test_dir(), out.files[0].name), &err));
        CHECK(same_model(s, &m, items, n));
        for (u32 i = 0; i < out.n_files; i++)
            CHECK_U64(s->files[i].size_bytes, out.files[i].size_bytes);
        n_split += out.n_files > 1;
        lb_source_close(&s);
        lb_meta_deinit(&m);
        lb_arena_reset(&perm);
    }
    CHECK(n_split > 50);
    lb_arena_deinit(&perm);
}

LB_TEST(same_input_same_bytes) {
    lb_gguf_item items[41], again[41];
    lb_gguf_meta m;
    u64 n = random_items(items);
    memcpy(again, items, sizeof items);
    CHECK_OK(random_meta(&m));
    lb_gguf_layout_opts opts = {.max_file_bytes = 2000};
    CHECK_OK(plan(&m, items, n, opts));
    lb_gguf_layout first = out;
    CHECK_OK(plan(&m, again, n, opts));
    CHECK_U64(first.n_files, out.n_files);
    for (u32 i = 0; i < out.n_files; i++)
        CHECK(lb_str_eq(first.files[i].header, out.files[i].header));
    lb_meta_deinit(&m);
    lb_arena_deinit(&perm);
}

LB_TEST(allocation_failures) {
    lb_gguf_item items[2] = {{LB_STR("a"), LB_F32, {1, {300}}, 0, 0, 0},
                             {LB_STR("b"), LB_F32, {1, {300}}, 0, 0, 0}};
    bool done = false;
    lb_arena holds = {0};
    lb_gguf_meta m;
    lb_meta_init(&m, &holds);
    CHECK_OK(set_scalars(&m));
    CHECK_OK(set_arrays(&m));
    for (u64 n = 1; n < 200 && !done; n++) {
        lb_arena_deinit(&perm);
        u64 before = lb_mem_count();
        lb_mem_fail_at(n);
        lb_status st = plan(&m, items, 2, (lb_gguf_layout_opts){.max_file_bytes = 1500});
        done = lb_mem_count() - before < n;
        lb_mem_fail_at(0);
        CHECK(st == (done ? LB_OK : LB_E_NOMEM));
    }
    CHECK(done && out.n_files == 2);
    lb_meta_deinit(&m);
    lb_arena_deinit(&holds);
    lb_arena_deinit(&perm);
}

LB_TEST_MAIN("fast")
