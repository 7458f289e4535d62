/* SPDX-License-Identifier: Apache-2.0 */
/* test_gguf_open.c: GGUF models as sources: weights, metadata, split files, failures, speed. */
#include "base/os.h"
#include "gguf_build.h"
#include "test.h"
#include <stdlib.h>

static lb_err err;

static const char *golden(const char *name) {
    char rel[128];
    (void)snprintf(rel, sizeof rel, "gguf/%s", name);
    return lb_test_golden(rel);
}

LB_TEST(one_file) {
    lb_source *s = NULL;
    CHECK_OK(lb_gguf_open(&s, golden("types.gguf"), &err));
    CHECK(s->format == LB_FORMAT_GGUF);
    CHECK_U64(s->n_files, 1);
    CHECK_U64(s->n_tensors, 39);
    CHECK_U64(s->n_weights, 39);
    CHECK_STR(s->label, "types.gguf");
    for (u64 i = 0; i < s->n_weights; i++) {
        const lb_weight *w = &s->weights[i];
        CHECK(w->enc.kind == LB_ENC_PLAIN && w->n_parts == 1 && w->part[0] == i);
        CHECK(lb_str_eq(w->name, s->tensors[i].name));
        CHECK(lb_shape_eq(&w->shape, &s->tensors[i].shape));
        CHECK(lb_source_weight(s, w->name) == w);
    }
    lb_str arch;
    CHECK(lb_kv_as_str(lb_meta_find(s->gguf, "general.architecture"), &arch));
    CHECK_STR(arch, "llama");
    const lb_gguf_info *info = lb_gguf_info_get(s);
    CHECK(info && &info->meta == s->gguf && info->version == 3 && info->n_files == 1);
    CHECK_U64(info->align_bytes, 32);
    lb_source_close(&s);
    CHECK_OK(lb_gguf_open(&s, golden("v2.gguf"), &err));
    CHECK_U64(lb_gguf_info_get(s)->version, 2);
    lb_source_close(&s);
    CHECK_OK(lb_gguf_open(&s, golden("align4096.gguf"), &err));
    CHECK_U64(lb_gguf_info_get(s)->align_bytes, 4096);
    CHECK_U64(s->tensors[0].off_bytes % 4096, 0);
    lb_source_close(&s);
    CHECK_OK(lb_gguf_open(&s, golden("no_tensors.gguf"), &err));
    CHECK_U64(s->n_tensors, 0);
    lb_source_close(&s);
}

LB_TEST(not_there_or_not_a_file) {
    lb_source *s = NULL;
    CHECK(lb_gguf_open(&s, "/nonexistent/x.gguf", &err) == LB_E_NOT_FOUND);
    CHECK(s == NULL && strstr(err.msg, "/nonexistent/x.gguf") != NULL);
    CHECK(lb_gguf_open(&s, lb_test_dir(), &err) != LB_OK);
    CHECK(s == NULL);
    lb_buf b = {0};
    lb_buf_put_c(&b, "GG");
    CHECK(lb_gguf_open(&s, gb_save(&b, lb_test_dir(), "short.gguf"), &err) == LB_E_FORMAT);
    CHECK(strstr(err.msg, "short.gguf: ") != NULL && strstr(err.msg, "cut off") != NULL);
    lb_buf_deinit(&b);
}

LB_TEST(nvfp4_scales) {
    lb_source *s = NULL;
    CHECK_OK(lb_gguf_open(&s, golden("nvfp4.gguf"), &err));
    CHECK_U64(s->n_tensors, 8);
    CHECK_U64(s->n_weights, 6);
    const lb_weight *q = lb_source_weight(s, LB_STR("blk.0.attn_q.weight"));
    CHECK(q && q->enc.kind == LB_ENC_GGUF_SCALED && q->n_parts == 2);
    CHECK_STR(s->tensors[q->part[1]].name, "blk.0.attn_q.scale");
    const lb_weight *up = lb_source_weight(s, LB_STR("blk.0.ffn_up_exps.weight"));
    CHECK(up && up->enc.kind == LB_ENC_GGUF_SCALED && up->shape.dim[0] == 3);
    CHECK_U64(s->tensors[up->part[1]].n_elems, 3);
    const lb_weight *gate = lb_source_weight(s, LB_STR("blk.0.ffn_gate.weight"));
    CHECK(gate && gate->enc.kind == LB_ENC_PLAIN && gate->n_parts == 1); /* no scale: 1.0 */
    CHECK(lb_source_weight(s, LB_STR("blk.0.attn_q.scale")) == NULL);
    CHECK(lb_source_weight(s, LB_STR("blk.0.attn_q.input_scale")) != NULL);
    CHECK(lb_source_weight(s, LB_STR("blk.0.attn_k.scale")) != NULL); /* of an f16 weight */
    lb_source_close(&s);
}

/* An NVFP4 weight [3, 1, 64] and its scale with the type and shape given; the scale stands first.
 */
static lb_status open_scaled(u32 type, u32 rank, const u64 *ne) {
    lb_buf b = {0};
    lb_source *s = NULL;
    u64 scale_bytes = type == 0 ? 4 : 2;
    for (u32 i = 0; i < rank; i++)
        scale_bytes *= ne[i];
    gb_head(&b, 3, 2, 0);
    gb_info(&b, "x.scale", rank, ne, type, 0);
    gb_info(&b, "x.weight", 3, (u64[]){64, 1, 3}, 40, (scale_bytes + 31) / 32 * 32);
    gb_pad(&b, 32);
    lb_buf_put_zeros(&b, 256);
    lb_status st = lb_gguf_open(&s, gb_save(&b, lb_test_dir(), "scaled.gguf"), &err);
    if (st == LB_OK && (s->n_weights != 1 || s->weights[0].part[1] != 0))
        st = LB_E_DIFFERENT;
    lb_source_close(&s);
    lb_buf_deinit(&b);
    return st;
}

LB_TEST(nvfp4_scale_shapes) {
    CHECK(open_scaled(0, 1, (u64[]){1}) == LB_OK);
    CHECK(open_scaled(0, 0, NULL) == LB_OK);
    CHECK(open_scaled(0, 1, (u64[]){3}) == LB_OK);
    CHECK(open_scaled(0, 1, (u64[]){2}) == LB_E_FORMAT);
    CHECK(strstr(err.msg, "'x.scale' is no scale for 'x.weight': type f32, shape [2]") != NULL);
    CHECK(open_scaled(1, 1, (u64[]){1}) == LB_E_FORMAT);
    CHECK(open_scaled(0, 1, (u64[]){0}) == LB_E_FORMAT);
}

/* Flipped bits through the whole of opening: names of companions, shapes of scales, split keys. */
LB_TEST(flipped_bits) {
    static const char *const files[] = {"nvfp4.gguf", "split4000first-00001-of-00006.gguf"};
    u64 n_ok = 0, n_refused = 0;
    for (size_t k = 0; k < LB_LEN(files); k++) {
        lb_arena a = {0};
        lb_str file;
        CHECK_OK(lb_os_read_file(golden(files[k]), LB_MIB, &a, &file, &err));
        for (u32 i = 0; i < 1500; i++) {
            lb_buf b = {0};
            lb_source *s = NULL;
            lb_buf_put_str(&b, file);
            for (u64 n = 1 + lb_test_rand_below(2); n > 0; n--)
                b.ptr[lb_test_rand_below(b.len)] ^= (u8)(1u << lb_test_rand_below(8));
            lb_status st = lb_gguf_open(&s, gb_save(&b, lb_test_dir(), files[k]), &err);
            CHECK((st == LB_OK) == (s != NULL));
            for (u64 w = 0; s && w < s->n_weights; w++)
                CHECK(lb_source_weight(s, s->weights[w].name) == &s->weights[w]);
            n_ok += st == LB_OK;
            n_refused += st != LB_OK;
            lb_source_close(&s);
            lb_buf_deinit(&b);
        }
        lb_arena_deinit(&a);
    }
    CHECK(n_ok > 100 && n_refused > 500);
}

/* ---- split files ---- */

/* The bytes of every tensor, in order, hashed by name: equal however a model is cut. */
static bool same_tensors(const lb_source *a, const lb_source *b) {
    static u8 x[8192], y[8192];
    if (a->n_tensors != b->n_tensors)
        return false;
    for (u64 i = 0; i < a->n_tensors; i++) {
        const lb_tensor *t = &a->tensors[i], *u = &b->tensors[i];
        int fd = -1;
        if (!lb_str_eq(t->name, u->name) || t->dtype != u->dtype ||
            t->size_bytes != u->size_bytes || t->size_bytes > sizeof x || t->n_elems != u->n_elems)
            return false;
        if (lb_os_open_read(a->files[t->file].path, &fd, NULL) != LB_OK ||
            lb_os_pread(fd, "a", x, t->size_bytes, t->off_bytes, NULL) != LB_OK)
            return false;
        lb_os_close(&fd);
        if (lb_os_open_read(b->files[u->file].path, &fd, NULL) != LB_OK ||
            lb_os_pread(fd, "b", y, u->size_bytes, u->off_bytes, NULL) != LB_OK)
            return false;
        lb_os_close(&fd);
        if (memcmp(x, y, t->size_bytes) != 0)
            return false;
    }
    return true;
}

LB_TEST(split_goldens) {
    static const char *const firsts[] = {"split4000-00001-of-00005.gguf",
                                         "split4000first-00001-of-00006.gguf"};
    for (size_t i = 0; i < LB_LEN(firsts); i++) {
        lb_source *s = NULL, *whole = NULL;
        CHECK_OK(lb_gguf_open(&s, golden(firsts[i]), &err));
        CHECK_OK(lb_gguf_open(&whole, golden("types.gguf"), &err));
        CHECK_U64(s->n_files, 5 + i);
        CHECK_U64(lb_gguf_info_get(s)->n_files, 5 + i);
        CHECK(same_tensors(s, whole));
        /* the model's pairs are the whole file's; the first file's own stay readable */
        lb_buf a = {0}, b = {0};
        gb_dump_meta(&a, s->gguf);
        gb_dump_meta(&b, whole->gguf);
        CHECK(lb_str_eq(lb_buf_str(&a), lb_buf_str(&b)));
        u64 count = 0;
        CHECK(lb_kv_as_u64(lb_meta_find(lb_gguf_info_get(s)->first, "split.count"), &count));
        CHECK_U64(count, 5 + i);
        CHECK(lb_meta_find(s->gguf, "split.count") == NULL);
        lb_buf_deinit(&a);
        lb_buf_deinit(&b);
        lb_source_close(&s);
        lb_source_close(&whole);
    }
}

LB_TEST(split_given_another_file) {
    lb_source *s = NULL;
    CHECK(lb_gguf_open(&s, golden("split4000-00003-of-00005.gguf"), &err) == LB_E_USAGE);
    CHECK(strstr(err.msg, "file 3 of 5") != NULL);
    CHECK(strstr(err.msg, "split4000-00001-of-00005.gguf") != NULL);
    CHECK(s == NULL);
}

/* Writes one file of a split with one tensor. name_no and count name the file; the rest is inside.
 */
typedef struct part {
    const char *file, *tensor;
    u32 no, count;
    i32 n_tensors;
    bool no_keys;
} part;

static const char *put_part(const part *p) {
    lb_buf b = {0};
    gb_head(&b, 3, 1, p->no_keys ? 0 : 3);
    if (!p->no_keys)
        gb_kv_split(&b, p->no, p->count, p->n_tensors);
    gb_info(&b, p->tensor, 1, (u64[]){4}, 0, 0);
    gb_pad(&b, 32);
    lb_buf_put_zeros(&b, 32);
    const char *path = gb_save(&b, lb_test_dir(), p->file);
    lb_buf_deinit(&b);
    return path;
}

#define M1 "m-00001-of-00002.gguf"
#define M2 "m-00002-of-00002.gguf"

static lb_status open_pair(part a, part b) {
    lb_source *s = NULL;
    const char *path = put_part(&a);
    (void)put_part(&b);
    lb_status st = lb_gguf_open(&s, path, &err);
    if ((st == LB_OK) != (s != NULL))
        st = LB_E_DIFFERENT;
    lb_source_close(&s);
    return st;
}

LB_TEST(split_rules) {
    CHECK(open_pair((part){M1, "a", 0, 2, 2, false}, (part){M2, "b", 1, 2, 2, false}) == LB_OK);
    /* the same tensor in two files */
    CHECK(open_pair((part){M1, "a", 0, 2, 2, false}, (part){M2, "a", 1, 2, 2, false}) ==
          LB_E_FORMAT);
    CHECK(strstr(err.msg, "'a'") != NULL && strstr(err.msg, M2) != NULL);
    /* the number of tensors */
    CHECK(open_pair((part){M1, "a", 0, 2, 3, false}, (part){M2, "b", 1, 2, 3, false}) ==
          LB_E_FORMAT);
    CHECK(strstr(err.msg, "3 tensors were promised, the files hold 2") != NULL);
    CHECK(open_pair((part){M1, "a", 0, 2, -1, false}, (part){M2, "b", 1, 2, 2, false}) ==
          LB_E_FORMAT);
    /* mixed up */
    CHECK(open_pair((part){M1, "a", 0, 2, 2, false}, (part){M2, "b", 0, 2, 2, false}) ==
          LB_E_FORMAT);
    CHECK(strstr(err.msg, "mixed up") != NULL);
    CHECK(open_pair((part){M1, "a", 0, 2, 2, false}, (part){M2, "b", 1, 3, 2, false}) ==
          LB_E_FORMAT);
    CHECK(open_pair((part){M1, "a", 0, 2, 2, false}, (part){M2, "b", 1, 2, 2, true}) ==
          LB_E_FORMAT);
    CHECK(strstr(err.msg, "'split.no' is missing") != NULL);
    /* the first file's name says one thing, its keys another */
    CHECK(open_pair((part){M1, "a", 0, 3, 2, false}, (part){M2, "b", 1, 3, 2, false}) ==
          LB_E_FORMAT);
    CHECK(strstr(err.msg, "-00001-of-00003.gguf") != NULL);
    CHECK(open_pair((part){M1, "a", 1, 2, 2, false}, (part){M2, "b", 1, 2, 2, false}) ==
          LB_E_USAGE);
    CHECK(strstr(err.msg, "open its first file") != NULL);
    CHECK(open_pair((part){"renamed.gguf", "a", 0, 2, 2, false}, (part){M2, "b", 1, 2, 2, false}) ==
          LB_E_FORMAT);
    CHECK(strstr(err.msg, "rename it") != NULL);
    CHECK(open_pair((part){"-00001-of-00002.gguf", "a", 0, 2, 2, false},
                    (part){"-00002-of-00002.gguf", "b", 1, 2, 2, false}) == LB_OK);
    /* a count of 0 or 1 is one file, under any name; its keys are not the model's */
    CHECK(open_pair((part){"merged.gguf", "a", 0, 0, 9, false}, (part){M2, "b", 1, 2, 2, false}) ==
          LB_OK);
    CHECK(open_pair((part){"single.gguf", "a", 0, 1, 1, false}, (part){M2, "b", 1, 2, 2, false}) ==
          LB_OK);
    lb_source *s = NULL;
    CHECK_OK(lb_gguf_open(&s, put_part(&(part){"merged.gguf", "a", 0, 0, 9, false}), &err));
    CHECK(s->gguf->n == 0 && lb_gguf_info_get(s)->first->n == 3);
    lb_source_close(&s);
}

LB_TEST(split_file_missing) {
    lb_source *s = NULL;
    const char *path = put_part(&(part){"gone-00001-of-00003.gguf", "a", 0, 3, 3, false});
    (void)put_part(&(part){"gone-00002-of-00003.gguf", "b", 1, 3, 3, false});
    CHECK(lb_gguf_open(&s, path, &err) == LB_E_NOT_FOUND);
    CHECK(strstr(err.msg, "file 3 of 3") != NULL);
    CHECK(strstr(err.msg, "gone-00003-of-00003.gguf") != NULL);
}

/* Wrong types of split keys: the tools write u16, u16, i32 and llama.cpp takes nothing else. */
LB_TEST(split_key_types) {
    static const struct {
        const char *key;
        u32 type;
    } cases[] = {{"split.count", LB_GGUF_U32},
                 {"split.count", LB_GGUF_STR},
                 {"split.no", LB_GGUF_I16},
                 {"split.tensors.count", LB_GGUF_U32}};
    for (size_t i = 0; i < LB_LEN(cases); i++) {
        lb_buf b = {0};
        lb_source *s = NULL;
        gb_head(&b, 3, 0, 2);
        if (strcmp(cases[i].key, "split.count") != 0) {
            gb_key(&b, "split.count", LB_GGUF_U16);
            lb_buf_put(&b, "\2\0", 2);
        } else {
            gb_kv_u32(&b, "other", 2);
        }
        gb_key(&b, cases[i].key, cases[i].type);
        lb_buf_put_zeros(&b, 8);
        CHECK(lb_gguf_open(&s, gb_save(&b, lb_test_dir(), "t-00001-of-00002.gguf"), &err) ==
              LB_E_FORMAT);
        CHECK(strstr(err.msg, cases[i].key) != NULL);
        lb_buf_deinit(&b);
    }
}

LB_TEST(allocation_failures) {
    static const char *const files[] = {"split4000-00001-of-00005.gguf", "nvfp4.gguf",
                                        "values.gguf"};
    for (size_t i = 0; i < LB_LEN(files); i++) {
        bool done = false;
        for (u64 n = 1; n < 2000 && !done; n++) {
            lb_source *s = NULL;
            u64 before = lb_mem_count();
            lb_mem_fail_at(n);
            lb_status st = lb_gguf_open(&s, golden(files[i]), &err);
            done = lb_mem_count() - before < n;
            lb_mem_fail_at(0);
            CHECK(st == (done ? LB_OK : LB_E_NOMEM));
            CHECK((s != NULL) == done);
            lb_source_close(&s);
        }
        CHECK(done);
    }
}

/* ---- speed: printed; the bounds are ten times what one core of a laptop needs ---- */

static double seconds_to_open(const char *path) {
    lb_source *s = NULL;
    double best = 1e9;
    for (int i = 0; i < 3; i++) {
        u64 t = lb_test_cpu_us();
        if (lb_gguf_open(&s, path, &err) != LB_OK)
            return 1e9;
        double d = (double)(lb_test_cpu_us() - t) / 1e6;
        best = LB_MIN(best, d);
        lb_source_close(&s);
    }
    return best;
}

LB_TEST(large_vocabulary) {
    const u32 n = (u32)lb_test_cases(260000);
    lb_buf b = {0};
    gb_head(&b, 3, 0, 3);
    gb_array(&b, "tokenizer.ggml.tokens", LB_GGUF_STR, n);
    for (u32 i = 0; i < n; i++) {
        char token[24];
        (void)snprintf(token, sizeof token, "%08x%.*s", i, (int)(i % 13), "abcdefghijklm");
        gb_str(&b, token);
    }
    gb_array(&b, "tokenizer.ggml.scores", LB_GGUF_F32, n);
    lb_buf_put_zeros(&b, (size_t)n * 4);
    gb_array(&b, "tokenizer.ggml.merges", LB_GGUF_STR, n);
    for (u32 i = 0; i < n; i++)
        gb_str(&b, "left right");
    CHECK_OK(lb_buf_status(&b, &err));
    double t = seconds_to_open(gb_save(&b, lb_test_dir(), "vocab.gguf"));
    lb_buf_deinit(&b);
    printf("open %u tokens and merges: %.3f s\n", n, t);
    CHECK(!lb_test_timed() || t < 1.0);
}

LB_TEST(many_tensors) {
    const u32 n = (u32)lb_test_cases(100000);
    lb_buf b = {0};
    gb_head(&b, 3, n, 0);
    for (u32 i = 0; i < n; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "blk.%u.ffn_gate_exps.%u.weight", i / 100, i % 100);
        gb_info(&b, name, 2, (u64[]){4, 2}, 0, (u64)i * 32);
    }
    gb_pad(&b, 32);
    lb_buf_put_zeros(&b, (size_t)n * 32);
    CHECK_OK(lb_buf_status(&b, &err));
    double t = seconds_to_open(gb_save(&b, lb_test_dir(), "many.gguf"));
    lb_buf_deinit(&b);
    printf("open %u tensors: %.3f s\n", n, t);
    CHECK(!lb_test_timed() || t < 1.5);
}

LB_TEST_MAIN("fast")
