/* SPDX-License-Identifier: Apache-2.0 */
/* The layout of safetensors output: bytes equal to the peers' files, shard cuts, limits. */
#include "base/os.h"
#include "format/safetensors.h"
#include "format/st_layout.h"
#include "st_files.h"
#include "test.h"

#include <stdlib.h>
#include <time.h>

#define ITEMS_MAX 128

static lb_st_item items[ITEMS_MAX];

/* Lines "name DTYPE d0 d1 ..." */
static u64 read_order(const char *golden, lb_arena *arena) {
    size_t len;
    u64 n = 0;
    u8 *bytes = st_slurp(lb_test_golden(golden), &len);
    lb_str text = lb_arena_str(arena, (lb_str){(char *)bytes, len});
    char *save = NULL, *line = strtok_r((char *)text.ptr, "\n", &save);
    for (; line; line = strtok_r(NULL, "\n", &save)) {
        char *word = NULL, *part = strtok_r(line, " ", &word);
        lb_st_item *it = &items[n++];
        *it = (lb_st_item){.name = lb_str_c(part)};
        if (n == ITEMS_MAX ||
            !lb_dtype_find_safetensors(lb_str_c(strtok_r(NULL, " ", &word)), &it->dtype))
            exit(1);
        while ((part = strtok_r(NULL, " ", &word)))
            it->shape.dim[it->shape.rank++] = strtoull(part, NULL, 10);
    }
    lb_free(bytes);
    return n;
}

static bool file_equals(const char *path, lb_str want) {
    size_t len;
    u8 *bytes = st_slurp(path, &len);
    bool eq = lb_str_eq((lb_str){(char *)bytes, len}, want);
    lb_free(bytes);
    return eq;
}

static bool file_begins_with(const char *path, lb_str want, u64 size) {
    size_t len;
    u8 *bytes = st_slurp(path, &len);
    bool eq = len == size && len >= want.len && memcmp(bytes, want.ptr, want.len) == 0;
    lb_free(bytes);
    return eq;
}

static int by_name(const void *a, const void *b) {
    return lb_str_cmp(((const lb_st_item *)a)->name, ((const lb_st_item *)b)->name);
}

/* transformers: the cut, the names, the index, and each header (the crate sorts by type, then
 * name). */
LB_TEST(transformers_shards) {
    lb_arena arena = {0};
    lb_err err = {0};
    lb_st_layout l;
    lb_st_meta meta = {LB_STR("format"), LB_STR("pt"), 0};
    lb_st_layout_opts o = {.style = LB_ST_HF,
                           .max_shard_bytes = 2500,
                           .data_align = 8,
                           .meta = &meta,
                           .n_meta = 1,
                           .n_parameters = 4944};
    u64 n = read_order("st/hf_sharded.order", &arena);
    CHECK_OK(lb_st_layout_plan(items, n, &o, &arena, &l, &err));
    CHECK_U64(l.n_shards, 5);
    CHECK_U64(l.total_bytes, 9888);
    CHECK_STR(l.index_name, "model.safetensors.index.json");
    CHECK(file_equals(lb_test_golden("st/hf_sharded/model.safetensors.index.json"), l.index));
    for (u32 s = 0; s < l.n_shards; s++) {
        static lb_st_item own[ITEMS_MAX];
        lb_st_layout one;
        lb_st_layout_opts single = o;
        char golden[128];
        u64 k = 0;
        single.max_shard_bytes = 0;
        for (u64 i = 0; i < n; i++)
            if (items[i].shard == s)
                own[k++] = items[i];
        CHECK_U64(k, l.shards[s].n_items);
        qsort(own, (size_t)k, sizeof own[0], by_name);
        CHECK_OK(lb_st_layout_plan(own, k, &single, &arena, &one, &err));
        CHECK(one.n_shards == 1 && one.index.len == 0);
        single.index_of_one = true;
        CHECK_OK(lb_st_layout_plan(own, k, &single, &arena, &one, &err));
        CHECK(one.n_shards == 1 && one.index.len > 0);
        CHECK_STR(one.shards[0].name, "model.safetensors");
        (void)snprintf(golden, sizeof golden, "st/hf_sharded/%.*s", LB_FMT(l.shards[s].name));
        CHECK(file_begins_with(lb_test_golden(golden), one.shards[0].header,
                               one.shards[0].size_bytes));
        CHECK_U64(l.shards[s].size_bytes, one.shards[0].size_bytes);
    }
    lb_arena_deinit(&arena);
}

/* A file of the crate with every trap of names and shapes, written again. */
LB_TEST(crate_header) {
    lb_arena arena = {0};
    lb_err err = {0};
    lb_source *s;
    lb_st_layout l;
    lb_str value[2];
    CHECK_OK(lb_st_open(&s, lb_test_golden("st/shapes.safetensors"), &err));
    CHECK(lb_st_metadata_find(s->st_metadata, LB_STR("format"), &arena, &value[0]));
    CHECK(lb_st_metadata_find(s->st_metadata, LB_STR("note"), &arena, &value[1]));
    bool first = lb_str_starts(s->st_metadata, LB_STR("{\"format\""));
    lb_st_meta meta[2];
    meta[first ? 0 : 1] = (lb_st_meta){LB_STR("format"), value[0], 0};
    meta[first ? 1 : 0] = (lb_st_meta){LB_STR("note"), value[1], 0};
    lb_st_layout_opts o = {.data_align = 8, .meta = meta, .n_meta = 2};
    for (u64 i = 0; i < s->n_tensors; i++)
        items[i] = (lb_st_item){
            .name = s->tensors[i].name, .dtype = s->tensors[i].dtype, .shape = s->tensors[i].shape};
    CHECK_OK(lb_st_layout_plan(items, s->n_tensors, &o, &arena, &l, &err));
    CHECK(file_begins_with(s->files[0].path, l.shards[0].header, s->files[0].size_bytes));
    for (u64 i = 0; i < s->n_tensors; i++)
        CHECK_U64(items[i].off_bytes, s->tensors[i].off_bytes);
    lb_source_close(&s);
    lb_arena_deinit(&arena);
}

LB_TEST(mlx_lm_index) {
    lb_arena arena = {0};
    lb_err err = {0};
    lb_st_layout l;
    lb_st_layout_opts o = {
        .style = LB_ST_MLX, .max_shard_bytes = 1, .data_align = 8, .n_parameters = 22};
    u64 n = read_order("st/mlx_index/sharded.order", &arena);
    CHECK_OK(lb_st_layout_plan(items, n, &o, &arena, &l, &err));
    CHECK_U64(l.n_shards, 3);
    CHECK(file_equals(lb_test_golden("st/mlx_index/sharded.json"), l.index));
    o.max_shard_bytes = 0;
    CHECK_OK(lb_st_layout_plan(items, n, &o, &arena, &l, &err));
    CHECK(l.n_shards == 1 && l.index.len > 0); /* mlx-lm writes it for one shard, too */
    lb_arena_deinit(&arena);
}

/* Shard numbers of huggingface_hub and mlx-lm for 258 lists of sizes. */
LB_TEST(cuts_as_the_peers) {
    size_t len;
    u8 *bytes = st_slurp(lb_test_golden("st/cuts.txt"), &len);
    char *save = NULL, *line = strtok_r((char *)bytes, "\n", &save);
    u64 n_lines = 0;
    for (; line; line = strtok_r(NULL, "\n", &save), n_lines++) {
        lb_arena arena = {0};
        lb_err err = {0};
        lb_st_layout l;
        lb_st_layout_opts o = {.data_align = 8};
        static char names[ITEMS_MAX][16];
        char *end = line + (line[0] == 'h' ? 2 : 3);
        o.style = line[0] == 'h' ? LB_ST_HF : LB_ST_MLX;
        o.max_shard_bytes = strtoull(end, &end, 10);
        u64 n = strtoull(end, &end, 10);
        CHECK(n < ITEMS_MAX);
        for (u64 i = 0; i < n; i++) {
            (void)snprintf(names[i], sizeof names[i], "t%03u", (unsigned)i);
            items[i] =
                (lb_st_item){.name = lb_str_c(names[i]), .dtype = LB_U8, .shape = {.rank = 1}};
            items[i].shape.dim[0] = strtoull(end, &end, 10);
        }
        CHECK_OK(lb_st_layout_plan(items, n, &o, &arena, &l, &err));
        u32 n_shards = 1;
        for (u64 i = 0; i < n; i++) {
            u64 want = strtoull(end, &end, 10);
            if (items[i].shard != want)
                lb_test_fail(__FILE__, __LINE__, "line %u item %u: shard %u, not %u",
                             (unsigned)n_lines, (unsigned)i, items[i].shard, (unsigned)want);
            n_shards = LB_MAX(n_shards, (u32)want + 1);
        }
        CHECK_U64(l.n_shards, n_shards);
        lb_arena_deinit(&arena);
    }
    lb_free(bytes);
    CHECK_U64(n_lines, 258);
}

/* For mapping: whole pages each on a page, then what is no whole page by the width of its elements;
 * list order in both; no holes. */
LB_TEST(whole_pages_first) {
    static const struct {
        const char *name;
        lb_dtype dtype;
        u64 n;
        u64 off; /* behind the header */
    } list[] = {{"norm", LB_BF16, 5, 12296},   {"codes", LB_U32, 1024, 0},
                {"bias", LB_F32, 2, 12288},    {"scales", LB_U8, 4096, 4096},
                {"words", LB_U8, 3, 12308},    {"matrix", LB_BF16, 2048, 8192},
                {"router", LB_BF16, 1, 12306}, {"none", LB_U8, 0, 12288}};
    lb_arena arena = {0};
    lb_err err = {0};
    lb_st_layout l;
    lb_st_layout_opts o = {.style = LB_ST_MLX, .data_align = 4096};
    for (u64 i = 0; i < LB_LEN(list); i++) {
        items[i] = (lb_st_item){
            .name = lb_str_c(list[i].name), .dtype = list[i].dtype, .shape = {.rank = 1}};
        items[i].shape.dim[0] = list[i].n;
    }
    CHECK_OK(lb_st_layout_plan(items, LB_LEN(list), &o, &arena, &l, &err));
    u64 data = l.shards[0].header.len;
    CHECK_U64(data, 4096);
    for (u64 i = 0; i < LB_LEN(list); i++)
        CHECK_U64(items[i].off_bytes, data + list[i].off);
    CHECK_U64(l.shards[0].size_bytes, data + 12311);
    lb_arena_deinit(&arena);
}

static const lb_dtype st_types[] = {LB_F32, LB_F16, LB_BF16, LB_U8,
                                    LB_U32, LB_I64, LB_F4,   LB_F6_E2M3};

static u64 random_items(lb_arena *arena) {
    u64 n = lb_test_rand_below(40);
    for (u64 i = 0; i < n; i++) {
        lb_st_item *it = &items[i];
        *it = (lb_st_item){.dtype = st_types[lb_test_rand_below(LB_LEN(st_types))]};
        it->name = lb_arena_printf(arena, "n%u.\xc3\xa9\x01\"%u",
                                   (unsigned)lb_test_rand_below(1000), (unsigned)i);
        it->shape.rank = (u32)lb_test_rand_below(4);
        for (u32 d = 0; d < it->shape.rank; d++)
            it->shape.dim[d] = lb_test_rand_below(6);
        if (it->dtype == LB_F4 || it->dtype == LB_F6_E2M3)
            it->shape.dim[it->shape.rank++] = 4;
    }
    return n;
}

/* What is planned is what the reader sees, in both styles, at every alignment, with fields. */
LB_TEST(read_back) {
    const char *dir = st_dir("back");
    for (u32 round = 0; round < 200; round++) {
        lb_arena arena = {0};
        lb_err err = {0};
        lb_st_layout l;
        lb_st_meta meta[3] = {{LB_STR("format"), LB_STR("mlx"), 0},
                              {LB_STR("hash\n"), LB_STR_NONE, 32},
                              {LB_STR("x"), LB_STR("\xe2\x82\xac\\\"\x1f"), 0}};
        lb_st_layout_opts o = {.style = round % 2 ? LB_ST_HF : LB_ST_MLX,
                               .max_shard_bytes = lb_test_rand_below(2000),
                               .data_align = (u64)8 << lb_test_rand_below(12),
                               .meta = meta,
                               .n_meta = lb_test_rand_below(4)};
        u64 n = random_items(&arena), n_read = 0;
        CHECK_OK(lb_st_layout_plan(items, n, &o, &arena, &l, &err));
        for (u32 k = 0; k < l.n_shards; k++) {
            lb_st_shard *sh = &l.shards[k];
            lb_source *s;
            lb_str text;
            int fd = -1;
            CHECK(sh->header.len % o.data_align == 0);
            u8 *bytes = lb_alloc_zero((size_t)sh->size_bytes, 1);
            CHECK(bytes != NULL);
            memcpy(bytes, sh->header.ptr, sh->header.len);
            if (o.n_meta > 1) {
                CHECK(sh->field_off[0] == 0 && sh->field_off[1] > 8);
                memset(bytes + sh->field_off[1], 'f', 32);
            }
            st_write(dir, "f", bytes, (size_t)sh->size_bytes);
            lb_free(bytes);
            CHECK_OK(lb_st_open(&s, st_path(dir, "f"), &err));
            CHECK_U64(s->n_tensors, sh->n_items);
            for (u64 i = 0; i < n; i++) {
                const lb_tensor *t =
                    items[i].shard == k ? lb_source_tensor(s, items[i].name) : NULL;
                if (items[i].shard != k)
                    continue;
                CHECK(t && t->off_bytes == items[i].off_bytes &&
                      t->size_bytes == items[i].size_bytes);
                CHECK(t->dtype == items[i].dtype && lb_shape_eq(&t->shape, &items[i].shape));
                n_read++;
            }
            CHECK(o.n_meta > 0 || s->st_metadata.len == 0);
            if (o.n_meta > 1) {
                CHECK(lb_st_metadata_find(s->st_metadata, LB_STR("hash\n"), &arena, &text));
                CHECK_STR(text, "ffffffffffffffffffffffffffffffff");
            }
            if (o.n_meta > 2) {
                CHECK(lb_st_metadata_find(s->st_metadata, LB_STR("x"), &arena, &text));
                CHECK_STR(text, "\xe2\x82\xac\\\"\x1f");
            }
            lb_os_close(&fd);
            lb_source_close(&s);
        }
        CHECK_U64(n_read, n);
        lb_arena_deinit(&arena);
    }
}

LB_TEST(refusals) {
    lb_arena arena = {0};
    lb_st_layout l;
    lb_st_layout_opts o = {.data_align = 8};
    const struct {
        lb_st_item a, b;
        lb_status code;
        const char *says;
    } list[] = {
        {{.name = LB_STR("a"), .dtype = LB_Q4_K, .shape = {1, {256}}},
         {.name = LB_STR("b")},
         LB_E_UNSUPPORTED,
         "q4_k"},
        {{.name = LB_STR("a")}, {.name = LB_STR("a")}, LB_E_FORMAT, "twice"},
        {{.name = LB_STR("__metadata__")}, {.name = LB_STR("a")}, LB_E_FORMAT, "__metadata__"},
        {{.name = LB_STR("\xff")}, {.name = LB_STR("a")}, LB_E_FORMAT, "name"},
        {{.name = LB_STR("a"), .dtype = LB_F4, .shape = {1, {3}}},
         {.name = LB_STR("b")},
         LB_E_FORMAT,
         "whole bytes"},
        {{.name = LB_STR("a"), .shape = {2, {UINT64_MAX, 2}}},
         {.name = LB_STR("b")},
         LB_E_FORMAT,
         "over"},
        {{.name = LB_STR("a"), .dtype = LB_U8, .shape = {1, {UINT64_MAX}}},
         {.name = LB_STR("b"), .dtype = LB_U8, .shape = {1, {1}}},
         LB_E_LIMIT,
         "overflow"},
        {{.name = LB_STR("a"), .dtype = LB_U8, .shape = {1, {UINT64_MAX}}},
         {.name = LB_STR("b"), .dtype = LB_U8, .shape = {1, {0}}},
         LB_E_LIMIT,
         "overflow"},
    };
    for (size_t i = 0; i < LB_LEN(list); i++) {
        lb_err err = {0};
        items[0] = list[i].a;
        items[1] = list[i].b;
        lb_status st = lb_st_layout_plan(items, 2, &o, &arena, &l, &err);
        if (st != list[i].code || !strstr(err.msg, list[i].says))
            lb_test_fail(__FILE__, __LINE__, "case %zu: %d \"%s\"", i, (int)st, err.msg);
    }
    lb_err err = {0};
    lb_st_meta meta[2] = {{LB_STR("k"), LB_STR("v"), 0}, {LB_STR("k"), LB_STR_NONE, 4}};
    o.meta = meta;
    o.n_meta = 2;
    CHECK(lb_st_layout_plan(items, 0, &o, &arena, &l, &err) == LB_E_FORMAT);
    meta[1] = (lb_st_meta){LB_STR("l"), LB_STR("\xc0\x80"), 0};
    CHECK(lb_st_layout_plan(items, 0, &o, &arena, &l, &err) == LB_E_FORMAT);
    meta[1] = (lb_st_meta){LB_STR("l"), LB_STR_NONE, 100000000};
    CHECK(lb_st_layout_plan(items, 0, &o, &arena, &l, &err) == LB_E_LIMIT);
    CHECK(strstr(err.msg, "smaller shards"));
    lb_arena_deinit(&arena);
}

LB_TEST(allocation_failures) {
    lb_arena names = {0};
    lb_st_meta meta = {LB_STR("format"), LB_STR("pt"), 0};
    lb_st_layout_opts o = {
        .style = LB_ST_MLX, .max_shard_bytes = 1500, .data_align = 64, .meta = &meta, .n_meta = 1};
    u64 n = read_order("st/hf_sharded.order", &names);
    lb_status st = LB_E_NOMEM;
    for (u64 k = 1; st != LB_OK; k++) {
        lb_arena arena = {0};
        lb_st_layout l;
        lb_err err = {0};
        lb_mem_fail_at(k);
        st = lb_st_layout_plan(items, n, &o, &arena, &l, &err);
        lb_mem_fail_at(0);
        CHECK(st == LB_OK || (st == LB_E_NOMEM && err.msg[0]));
        CHECK(k < 1000);
        lb_arena_deinit(&arena);
    }
    lb_arena_deinit(&names);
}

/* 100,000 tensors in 1,000 shards: time and memory stay in proportion. */
LB_TEST(large) {
    const u64 n = lb_test_cases(100000), n_shards = lb_ceil_div_u64(n, 100);
    lb_arena arena = {0}, names = {0};
    lb_err err = {0};
    lb_st_layout l;
    lb_st_item *many = lb_arena_new(&names, lb_st_item, n);
    lb_st_layout_opts o = {.style = LB_ST_HF, .max_shard_bytes = 100 * 8192, .data_align = 8};
    CHECK(many != NULL);
    for (u64 i = 0; i < n; i++) {
        many[i].name = lb_arena_printf(&names, "model.layers.%u.mlp.experts.%u.up_proj.weight",
                                       (unsigned)(i / 512), (unsigned)(i % 512));
        many[i].dtype = LB_BF16;
        many[i].shape = (lb_shape){2, {64, 64}};
        CHECK(many[i].name.ptr != NULL);
    }
    clock_t start = clock();
    CHECK_OK(lb_st_layout_plan(many, n, &o, &arena, &l, &err));
    printf("layout of %llu tensors in %u shards: %.3f s, %.1f MB\n", (unsigned long long)n,
           l.n_shards, (double)(clock() - start) / CLOCKS_PER_SEC, (double)arena.size_bytes / 1e6);
    CHECK_U64(l.n_shards, n_shards);
    if (lb_test_full())
        CHECK_STR(l.shards[999].name, "model-01000-of-01000.safetensors");
    o.max_shard_bytes = 0;
    CHECK_OK(lb_st_layout_plan(many, n, &o, &arena, &l, &err));
    CHECK(l.n_shards == 1 && l.shards[0].header.len < LB_ST_HEADER_MAX);
    lb_arena_deinit(&arena);
    lb_arena_deinit(&names);
}

LB_TEST_MAIN("fast")
