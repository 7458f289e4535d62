/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_gguf.c: bytes -> GGUF directory. What is accepted must be sound, and what the writer makes
 * of it must be read back as the same, twice with the same bytes. */
#include "format/gguf.h"
#include "format/gguf_write.h"
#include <stdlib.h>

#define REQUIRE(cond) ((cond) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static lb_status parse(const void *bytes, u64 len, lb_arena *arena, lb_gguf_dir *dir, lb_err *err) {
    lb_cur c;
    lb_cur_mem(&c, "input", bytes, len);
    *dir = (lb_gguf_dir){.perm = arena, .scratch = arena};
    return lb_gguf_parse(&c, dir, err);
}

static void check_ranges(const lb_gguf_dir *dir, u64 size) {
    u64 end = dir->data_off_bytes;
    REQUIRE(dir->header_bytes <= size);
    for (u64 i = 0; i < dir->n_tensors; i++) {
        const lb_tensor *t = &dir->tensors[i];
        u64 n, bytes;
        REQUIRE(t->off_bytes >= end && t->off_bytes % dir->align_bytes == 0);
        REQUIRE(t->off_bytes <= size && t->size_bytes <= size - t->off_bytes);
        REQUIRE(lb_shape_elems(&t->shape, &n) && n == t->n_elems);
        REQUIRE(lb_dtype_bytes(t->dtype, n, &bytes) && bytes == t->size_bytes);
        end = t->off_bytes + t->size_bytes;
    }
}

/* Every getter on every pair and element. */
static void read_values(const lb_gguf_meta *m) {
    for (u64 i = 0; i < m->n; i++) {
        const lb_gguf_kv *kv = &m->kv[i];
        u64 u;
        i64 s;
        double f;
        bool b;
        lb_str str;
        (void)(lb_kv_as_u64(kv, &u) || lb_kv_as_i64(kv, &s) || lb_kv_as_f64(kv, &f));
        (void)(lb_kv_as_bool(kv, &b) || lb_kv_as_str(kv, &str));
        for (u64 e = 0; kv->type == LB_GGUF_ARRAY && e < kv->n && e < 64; e++) {
            (void)(lb_kv_elem_u64(kv, e, &u) || lb_kv_elem_i64(kv, e, &s) ||
                   lb_kv_elem_f64(kv, e, &f));
            if (lb_kv_elem_str(kv, e, &str) && str.len > 0) /* both ends can be read */
                (void)(str.ptr[0] + str.ptr[str.len - 1]);
        }
    }
}

static lb_status plan(const lb_gguf_dir *dir, lb_arena *arena, lb_gguf_layout *out, lb_err *err) {
    lb_gguf_item *items = lb_arena_new(arena, lb_gguf_item, dir->n_tensors + 1);
    lb_gguf_layout_opts opts = {.meta = &dir->meta, .stem = LB_STR("m")};
    REQUIRE(items != NULL);
    for (u64 i = 0; i < dir->n_tensors; i++) {
        const lb_tensor *t = &dir->tensors[i];
        items[i] = (lb_gguf_item){.name = t->name, .dtype = t->dtype, .shape = t->shape};
    }
    return lb_gguf_layout_plan(items, dir->n_tensors, &opts, arena, out, err);
}

static void write_and_read(const lb_gguf_dir *dir, lb_arena *arena, lb_err *err) {
    lb_gguf_layout first, second;
    lb_gguf_dir again;
    lb_status st = plan(dir, arena, &first, err);
    REQUIRE(st == LB_OK || st == LB_E_LIMIT); /* an alignment above what is written */
    if (st != LB_OK || first.files[0].size_bytes > LB_MIB)
        return;
    u8 *bytes = lb_arena_new(arena, u8, first.files[0].size_bytes);
    REQUIRE(bytes != NULL);
    memcpy(bytes, first.files[0].header.ptr, first.files[0].header.len);
    REQUIRE(parse(bytes, first.files[0].size_bytes, arena, &again, err) == LB_OK);
    REQUIRE(again.n_tensors == dir->n_tensors && again.align_bytes == dir->align_bytes);
    for (u64 i = 0; i < dir->n_tensors; i++) {
        const lb_tensor *a = &dir->tensors[i], *b = &again.tensors[i];
        REQUIRE(lb_str_eq(a->name, b->name) && a->dtype == b->dtype);
        REQUIRE(lb_shape_eq(&a->shape, &b->shape));
    }
    REQUIRE(plan(&again, arena, &second, err) == LB_OK);
    REQUIRE(lb_str_eq(first.files[0].header, second.files[0].header));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    lb_arena arena = {0};
    lb_gguf_dir dir;
    lb_err err = {0};
    lb_status st = parse(data, size, &arena, &dir, &err);
    REQUIRE(st == LB_OK || (st == err.code && err.msg[0] != 0));
    REQUIRE(st != LB_E_NOMEM && st != LB_E_IO);
    if (st == LB_OK) {
        check_ranges(&dir, size);
        read_values(&dir.meta);
        write_and_read(&dir, &arena, &err);
    }
    lb_arena_deinit(&arena);
    return 0;
}
