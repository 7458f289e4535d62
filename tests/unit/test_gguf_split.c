/* SPDX-License-Identifier: Apache-2.0 */
/* test_gguf_split.c: names of split files, the cut, and files equal to llama-gguf-split's. */
#include "format/gguf_split.h"
#include "base/os.h"
#include "format/gguf_write.h"
#include "gguf_build.h"
#include "test.h"

static lb_err err;

LB_TEST(names) {
    lb_arena a = {0};
    lb_str stem = LB_STR_NONE;
    CHECK_STR(lb_gguf_split_format(&a, LB_STR("dir/m"), 0, 3), "dir/m-00001-of-00003.gguf");
    CHECK_STR(lb_gguf_split_format(&a, LB_STR("m"), 65534, 65535), "m-65535-of-65535.gguf");
    CHECK_STR(lb_gguf_split_format(&a, LB_STR("m"), 99999, 100000), "m-100000-of-100000.gguf");
    CHECK(lb_gguf_split_parse(LB_STR("dir/m-00001-of-00003.gguf"), 0, 3, &stem));
    CHECK_STR(stem, "dir/m");
    CHECK(lb_gguf_split_parse(LB_STR("a-00001-of-00002.gguf-00002-of-00002.gguf"), 1, 2, &stem));
    CHECK_STR(stem, "a-00001-of-00002.gguf");
    static const char *const others[] = {
        "",
        "m.gguf",
        "m-00002-of-00003.gguf",
        "m-00001-of-00004.gguf",
        "m-1-of-3.gguf",
        "m00001-of-00003.gguf",
        "m-00001-of-00003.GGUF",
        "-00001-of-00003.gguf",
        "m-00001-of-00003",
    };
    for (size_t i = 0; i < LB_LEN(others); i++)
        CHECK(!lb_gguf_split_parse(lb_str_c(others[i]), 0, 3, &stem));
    lb_arena_deinit(&a);
}

LB_TEST(parts_of_a_stem) {
    u32 no, count;
    CHECK(lb_gguf_split_is_part(LB_STR("m-00001-of-00003.gguf"), LB_STR("m"), &no, &count));
    CHECK(no == 0 && count == 3);
    CHECK(lb_gguf_split_is_part(LB_STR("m-65535-of-65535.gguf"), LB_STR("m"), &no, &count));
    CHECK(no == 65534 && count == 65535);
    static const char *const others[] = {"m",
                                         "m.gguf",
                                         "m-00000-of-00003.gguf",
                                         "m-00004-of-00003.gguf",
                                         "m-1-of-3.gguf",
                                         "m-000001-of-00003.gguf",
                                         "m-00001-of-00003.gguf.bak",
                                         "m-00001-of-.gguf",
                                         "m-x-00001-of-00003.gguf",
                                         "mm-00001-of-00003.gguf",
                                         "m-00001-of-65536.gguf"};
    for (size_t i = 0; i < LB_LEN(others); i++)
        CHECK(!lb_gguf_split_is_part(lb_str_c(others[i]), LB_STR("m"), &no, &count));
}

/* The cut as a plain walk with its own bookkeeping: close the file when adding would exceed max and
 * the file is not empty. */
LB_TEST(cut) {
    for (int k = 0; k < 2000; k++) {
        u64 sizes[50], n = lb_test_rand_below(51), max = 1 + lb_test_rand_below(1000);
        u32 file[50], first = (u32)lb_test_rand_below(2), at = first;
        for (u64 i = 0; i < n; i++)
            sizes[i] = lb_test_rand_below(8) ? lb_test_rand_below(400) : lb_test_rand_below(3000);
        u64 n_files = lb_gguf_split_cut(sizes, n, max, first, file);
        u64 sum = 0, in_file = 0;
        for (u64 i = 0; i < n; i++) {
            if (in_file > 0 && sum + sizes[i] > max) {
                at++;
                sum = in_file = 0;
            }
            sum += sizes[i];
            in_file++;
            CHECK_U64(file[i], at);
        }
        CHECK_U64(n_files, (u64)at + 1);
    }
}

/* ---- against llama-gguf-split ---- */

static lb_gguf_item *items_of(const lb_source *s, lb_arena *a) {
    lb_gguf_item *items = lb_arena_new(a, lb_gguf_item, s->n_tensors + 1);
    for (u64 i = 0; items && i < s->n_tensors; i++) {
        const lb_tensor *t = &s->tensors[i];
        items[i] = (lb_gguf_item){.name = t->name, .dtype = t->dtype, .shape = t->shape};
    }
    return items;
}

/* Builds file no whole: header, tensors from the source, zeros between. */
static bool build(const lb_source *s, const lb_gguf_layout *out, const lb_gguf_item *items, u32 no,
                  lb_arena *a, lb_str *bytes) {
    const lb_gguf_file *f = &out->files[no];
    u8 *p = lb_arena_new(a, u8, f->size_bytes);
    if (!p)
        return false;
    memcpy(p, f->header.ptr, f->header.len);
    for (u64 i = 0; i < s->n_tensors; i++) {
        int fd = -1;
        const lb_tensor *t = &s->tensors[i];
        const char *path = s->files[t->file].path;
        if (items[i].file != no)
            continue;
        bool ok = lb_os_open_read(path, &fd, &err) == LB_OK &&
                  lb_os_pread(fd, path, p + items[i].off_bytes, t->size_bytes, t->off_bytes,
                              &err) == LB_OK;
        lb_os_close(&fd);
        if (!ok)
            return false;
    }
    *bytes = (lb_str){(const char *)p, f->size_bytes};
    return true;
}

LB_TEST(files_of_llama_gguf_split) {
    static const struct {
        const char *stem;
        bool first_no_tensors;
    } sets[] = {{"split4000", false}, {"split4000first", true}};
    for (size_t k = 0; k < LB_LEN(sets); k++) {
        lb_arena a = {0};
        lb_source *s = NULL;
        lb_gguf_layout out;
        CHECK_OK(lb_gguf_open(&s, lb_test_golden("gguf/types.gguf"), &err));
        lb_gguf_item *items = items_of(s, &a);
        lb_gguf_layout_opts opts = {.meta = s->gguf,
                                    .stem = lb_str_c(sets[k].stem),
                                    .max_file_bytes = 4000,
                                    .first_no_tensors = sets[k].first_no_tensors,
                                    .trim_dims = true};
        CHECK_OK(lb_gguf_layout_plan(items, s->n_tensors, &opts, &a, &out, &err));
        CHECK_U64(out.n_files, 5 + k);
        for (u32 i = 0; i < out.n_files; i++) {
            lb_str want, got;
            lb_str rel = lb_arena_printf(&a, "gguf/%.*s", LB_FMT(out.files[i].name));
            CHECK_OK(lb_os_read_file(lb_test_golden(rel.ptr), LB_MIB, &a, &want, &err));
            CHECK(build(s, &out, items, i, &a, &got));
            CHECK_U64(got.len, want.len);
            CHECK(lb_str_eq(got, want));
        }
        lb_source_close(&s);
        lb_arena_deinit(&a);
    }
}

/* ---- what a split adds ---- */

static void two_items(lb_gguf_item items[2]) {
    items[0] = (lb_gguf_item){LB_STR("a"), LB_F32, {1, {100}}, 0, 0, 0};
    items[1] = (lb_gguf_item){LB_STR("b"), LB_F32, {1, {100}}, 0, 0, 0};
}

static bool parse_header(const lb_gguf_file *f, lb_arena *a, lb_gguf_dir *dir) {
    u8 *p = lb_arena_new(a, u8, f->size_bytes);
    lb_cur c;
    if (!p)
        return false;
    memcpy(p, f->header.ptr, f->header.len);
    lb_cur_mem(&c, "memory", p, f->size_bytes);
    *dir = (lb_gguf_dir){.perm = a, .scratch = a};
    return lb_gguf_parse(&c, dir, &err) == LB_OK;
}

/* A model that was split before: its own split.* keys are replaced, not repeated; a special
 * alignment holds in every file. */
LB_TEST(old_keys_and_alignment) {
    lb_arena a = {0};
    lb_gguf_meta m;
    lb_gguf_item items[2];
    lb_gguf_layout out;
    lb_gguf_dir dir;
    two_items(items);
    lb_meta_init(&m, &a);
    CHECK_OK(lb_meta_set_u32(&m, "split.count", 99, &err));
    CHECK_OK(lb_meta_set_u32(&m, "general.alignment", 128, &err));
    CHECK_OK(lb_meta_set_u32(&m, "split.tensors.count", 99, &err));
    lb_gguf_layout_opts opts = {.meta = &m, .stem = LB_STR("m"), .max_file_bytes = 512};
    CHECK_OK(lb_gguf_layout_plan(items, 2, &opts, &a, &out, &err));
    CHECK_U64(out.n_files, 2);
    for (u32 i = 0; i < 2; i++) {
        CHECK(parse_header(&out.files[i], &a, &dir));
        CHECK_U64(dir.align_bytes, 128);
        CHECK_U64(dir.meta.n, 4);
        CHECK_STR(dir.meta.kv[0].key, "general.alignment");
        CHECK_STR(dir.meta.kv[1].key, "split.no");
        CHECK(dir.meta.kv[1].type == LB_GGUF_U16 && dir.meta.kv[1].v.u == i);
        CHECK_STR(dir.meta.kv[2].key, "split.tensors.count");
        CHECK(dir.meta.kv[2].type == LB_GGUF_I32 && dir.meta.kv[2].v.i == 2);
        CHECK_STR(dir.meta.kv[3].key, "split.count");
        CHECK(dir.meta.kv[3].type == LB_GGUF_U16 && dir.meta.kv[3].v.u == 2);
        CHECK_U64(dir.n_tensors, 1);
        CHECK_U64(items[i].off_bytes % 128, 0);
    }
    lb_meta_deinit(&m);
    lb_arena_deinit(&a);
}

LB_TEST(one_file_is_no_split) {
    lb_arena a = {0};
    lb_gguf_meta m;
    lb_gguf_item items[2];
    lb_gguf_layout out;
    two_items(items);
    lb_meta_init(&m, &a);
    lb_gguf_layout_opts opts = {
        .meta = &m, .stem = LB_STR("m"), .max_file_bytes = 832, .first_no_tensors = true};
    CHECK_OK(lb_gguf_layout_plan(items, 2, &opts, &a, &out, &err)); /* 2 x 416: just fits */
    CHECK_U64(out.n_files, 1);
    CHECK_STR(out.files[0].name, "m.gguf");
    opts.max_file_bytes = 831;
    CHECK_OK(lb_gguf_layout_plan(items, 2, &opts, &a, &out, &err));
    CHECK_U64(out.n_files, 3);
    CHECK_U64(out.files[0].n_items, 0);
    CHECK_STR(out.files[2].name, "m-00003-of-00003.gguf");
    lb_meta_deinit(&m);
    lb_arena_deinit(&a);
}

LB_TEST(too_many_files) {
    enum { N = 65536 };
    lb_arena a = {0};
    lb_gguf_meta m;
    lb_gguf_layout out;
    lb_gguf_item *items = lb_arena_new(&a, lb_gguf_item, N);
    CHECK(items != NULL);
    for (u32 i = 0; i < N; i++)
        items[i] = (lb_gguf_item){lb_arena_printf(&a, "t%u", i), LB_F32, {1, {8}}, 0, 0, 0};
    lb_meta_init(&m, &a);
    lb_gguf_layout_opts opts = {.meta = &m, .stem = LB_STR("m"), .max_file_bytes = 32};
    CHECK(lb_gguf_layout_plan(items, N, &opts, &a, &out, &err) == LB_E_LIMIT);
    CHECK(strstr(err.msg, "65536 files") != NULL);
    CHECK_OK(lb_gguf_layout_plan(items, N - 1, &opts, &a, &out, &err));
    CHECK_U64(out.n_files, 65535);
    lb_meta_deinit(&m);
    lb_arena_deinit(&a);
}

LB_TEST_MAIN("fast")
