/* SPDX-License-Identifier: Apache-2.0 */
#include "gguf_build.h"
#include "base/os.h"
#include <stdio.h>

void gb_head(lb_buf *b, u32 version, u64 n_tensors, u64 n_kv) {
    lb_buf_put_u32(b, LB_GGUF_MAGIC);
    lb_buf_put_u32(b, version);
    lb_buf_put_u64(b, n_tensors);
    lb_buf_put_u64(b, n_kv);
}

void gb_str(lb_buf *b, const char *s) {
    lb_buf_put_u64(b, strlen(s));
    lb_buf_put_c(b, s);
}

void gb_key(lb_buf *b, const char *key, u32 type) {
    gb_str(b, key);
    lb_buf_put_u32(b, type);
}

void gb_array(lb_buf *b, const char *key, u32 elem, u64 n) {
    gb_key(b, key, LB_GGUF_ARRAY);
    lb_buf_put_u32(b, elem);
    lb_buf_put_u64(b, n);
}

void gb_kv_u32(lb_buf *b, const char *key, u32 v) {
    gb_key(b, key, LB_GGUF_U32);
    lb_buf_put_u32(b, v);
}

void gb_kv_str(lb_buf *b, const char *key, const char *v) {
    gb_key(b, key, LB_GGUF_STR);
    gb_str(b, v);
}

void gb_kv_split(lb_buf *b, u32 no, u32 count, i32 n_tensors) {
    gb_key(b, LB_GGUF_KEY_SPLIT_NO, LB_GGUF_U16);
    lb_buf_put(b, &no, 2);
    gb_key(b, LB_GGUF_KEY_SPLIT_COUNT, LB_GGUF_U16);
    lb_buf_put(b, &count, 2);
    gb_key(b, LB_GGUF_KEY_SPLIT_TENSORS, LB_GGUF_I32);
    lb_buf_put(b, &n_tensors, 4);
}

void gb_info(lb_buf *b, const char *name, u32 rank, const u64 *ne, u32 type, u64 off) {
    gb_str(b, name);
    lb_buf_put_u32(b, rank);
    for (u32 i = 0; i < rank; i++)
        lb_buf_put_u64(b, ne[i]);
    lb_buf_put_u32(b, type);
    lb_buf_put_u64(b, off);
}

void gb_pad(lb_buf *b, size_t align) {
    lb_buf_put_zeros(b, (align - b->len % align) % align);
}

const char *gb_save(const lb_buf *b, const char *dir, const char *name) {
    static char paths[4][512];
    static int next;
    char *path = paths[next++ % 4];
    int fd = -1;
    (void)snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    (void)lb_os_unlink(path, NULL);
    if (lb_os_open_write(path, true, &fd, NULL) != LB_OK ||
        lb_os_pwrite(fd, path, b->ptr, b->len, 0, NULL) != LB_OK)
        perror(path);
    lb_os_close(&fd);
    return path;
}

/* ---- dump ---- */

static void dump_hex(lb_buf *out, lb_str s) {
    for (size_t i = 0; i < s.len; i++)
        lb_buf_printf(out, "%02x", (u8)s.ptr[i]);
}

static void dump_value(lb_buf *out, const lb_gguf_kv *kv) {
    u64 bits;
    switch (kv->type) {
    case LB_GGUF_STR:
        dump_hex(out, kv->v.s);
        break;
    case LB_GGUF_F32:
        lb_buf_printf(out, "%08x", lb_f32_bits((float)kv->v.f));
        break;
    case LB_GGUF_F64:
        memcpy(&bits, &kv->v.f, sizeof bits);
        lb_buf_printf(out, "%016llx", (unsigned long long)bits);
        break;
    case LB_GGUF_I8:
    case LB_GGUF_I16:
    case LB_GGUF_I32:
    case LB_GGUF_I64:
        lb_buf_printf(out, "%lld", (long long)kv->v.i);
        break;
    default:
        lb_buf_printf(out, "%llu", (unsigned long long)kv->v.u);
    }
}

static void dump_array(lb_buf *out, const lb_gguf_kv *kv) {
    u32 size = lb_gguf_type_bytes(kv->elem);
    lb_buf_printf(out, "array:%s:%llu ", lb_gguf_type_name(kv->elem), (unsigned long long)kv->n);
    for (u64 i = 0; i < kv->n; i++) {
        lb_gguf_kv e = {.type = LB_GGUF_STR};
        if (i > 0)
            lb_buf_put_c(out, ",");
        if (kv->elem == LB_GGUF_STR)
            (void)lb_kv_elem_str(kv, i, &e.v.s);
        else
            (void)lb_kv_load(&e, kv->elem, (const u8 *)kv->v.array + i * size);
        dump_value(out, &e);
    }
}

void gb_dump_meta(lb_buf *out, const lb_gguf_meta *m) {
    for (u64 i = 0; i < m->n; i++) {
        const lb_gguf_kv *kv = &m->kv[i];
        lb_buf_printf(out, "kv %.*s ", LB_FMT(kv->key));
        if (kv->type == LB_GGUF_ARRAY) {
            dump_array(out, kv);
        } else {
            lb_buf_printf(out, "%s ", lb_gguf_type_name(kv->type));
            dump_value(out, kv);
        }
        lb_buf_put_c(out, "\n");
    }
}

void gb_dump_tensors(lb_buf *out, const lb_tensor *t, u64 n) {
    for (u64 i = 0; i < n; i++) {
        char shape[LB_SHAPE_TEXT];
        lb_buf_printf(out, "tensor %.*s %s %s %llu %llu\n", LB_FMT(t[i].name),
                      lb_dtype_get(t[i].dtype)->name, lb_shape_text(&t[i].shape, shape),
                      (unsigned long long)t[i].off_bytes, (unsigned long long)t[i].size_bytes);
    }
}
