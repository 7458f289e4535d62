/* SPDX-License-Identifier: Apache-2.0 */
/* st_files.c: see st_files.h. */
#include "st_files.h"

#include "base/os.h"
#include "format/st_layout.h"
#include "test.h"

#include <stdlib.h>

#define TENSORS_MAX 64

static void die(const char *what, const lb_err *err) {
    fprintf(stderr, "test files: %s: %s\n", what, err->msg);
    exit(1);
}

const char *st_path(const char *dir, const char *name) {
    static char ring[16][1024];
    static unsigned at;
    char *p = ring[at++ % LB_LEN(ring)];
    (void)snprintf(p, sizeof ring[0], "%s/%s", dir, name);
    return p;
}

const char *st_dir(const char *name) {
    static char ring[8][512];
    static unsigned at;
    lb_err err = {0};
    char *path = ring[at++ % LB_LEN(ring)];
    (void)snprintf(path, sizeof ring[0], "%s/%s", lb_test_dir(), name);
    if (lb_os_remove_tree(path, &err) != LB_OK && lb_os_exists(path))
        die(path, &err);
    if (lb_os_mkdir(path, false, &err) != LB_OK)
        die(path, &err);
    return path;
}

static void write_at(const char *path, const void *bytes, size_t len, u64 size_bytes) {
    lb_err err = {0};
    int fd = -1;
    if (lb_os_unlink(path, &err) != LB_OK || lb_os_open_write(path, true, &fd, &err) != LB_OK ||
        lb_os_pwrite(fd, path, bytes, len, 0, &err) != LB_OK ||
        lb_os_truncate(fd, path, size_bytes, &err) != LB_OK)
        die(path, &err);
    lb_os_close(&fd);
}

void st_write(const char *dir, const char *name, const void *bytes, size_t len) {
    write_at(st_path(dir, name), bytes, len, len);
}

void st_text(const char *dir, const char *name, const char *text) {
    st_write(dir, name, text, strlen(text));
}

u8 *st_slurp(const char *path, size_t *len) {
    lb_err err = {0};
    lb_arena arena = {0};
    lb_str text;
    if (lb_os_read_file(path, LB_GIB, &arena, &text, &err) != LB_OK)
        die(path, &err);
    u8 *out = lb_alloc(text.len + 1);
    if (!out)
        die(path, &err);
    memcpy(out, text.ptr, text.len + 1);
    *len = text.len;
    lb_arena_deinit(&arena);
    return out;
}

void st_copy(const char *from, const char *dir, const char *name) {
    size_t len;
    u8 *bytes = st_slurp(from, &len);
    st_write(dir, name, bytes, len);
    lb_free(bytes);
}

void st_raw(const char *dir, const char *name, const char *header, u64 data_bytes) {
    size_t len = strlen(header);
    u8 *bytes = lb_alloc(len + 8);
    if (!bytes)
        exit(1);
    lb_store_u64(bytes, len);
    memcpy(bytes + 8, header, len);
    write_at(st_path(dir, name), bytes, len + 8, len + 8 + data_bytes);
    lb_free(bytes);
}

void st_file(const char *dir, const char *name, const char *format, const char *tensors) {
    static lb_st_item items[TENSORS_MAX];
    lb_err err = {0};
    lb_arena arena = {0};
    lb_st_layout layout;
    lb_st_meta meta = {LB_STR("format"), lb_str_c(format), 0};
    lb_st_layout_opts opts = {.data_align = 8, .meta = &meta, .n_meta = format ? 1 : 0};
    u64 n = 0;
    char *copy = lb_alloc(strlen(tensors) + 1);
    if (!copy)
        exit(1);
    memcpy(copy, tensors, strlen(tensors) + 1);
    for (char *save = NULL, *one = strtok_r(copy, ";", &save); one;
         one = strtok_r(NULL, ";", &save)) {
        char *word = NULL, *part = strtok_r(one, " ", &word);
        lb_st_item *it = &items[n++];
        *it = (lb_st_item){.name = lb_str_c(part)};
        part = strtok_r(NULL, " ", &word);
        if (n > TENSORS_MAX || !lb_dtype_find_safetensors(lb_str_c(part), &it->dtype))
            die(part, &err);
        while ((part = strtok_r(NULL, " ", &word)))
            it->shape.dim[it->shape.rank++] = strtoull(part, NULL, 10);
    }
    if (lb_st_layout_plan(items, n, &opts, &arena, &layout, &err) != LB_OK)
        die(name, &err);
    write_at(st_path(dir, name), layout.shards[0].header.ptr, layout.shards[0].header.len,
             layout.shards[0].size_bytes);
    lb_arena_deinit(&arena);
    lb_free(copy);
}
