/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_open.c: a MODEL argument as a user gives it: a folder or file of any bytes, opened and
 * inspected.
 *
 * Parts (parts.h): a what is opened (empty: the folder; else one letter, that file); b
 * pytorch_model.bin, c config.json, i the index, s model.safetensors, o and p its shards, g m.gguf,
 * x and y a split GGUF, l lbrx.json. The files lie in a folder of the process, in memory where the
 * system has /dev/shm. Checked: no crash; a refusal has a message; every range is inside its file;
 * every part is a tensor. */
#include "base/os.h"
#include "fuzz/parts.h"
#include "ops/inspect.h"
#include "ops/open.h"
#include <fcntl.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct {
    char letter;
    const char *name;
} files[] = {{'b', "pytorch_model.bin"},
             {'c', "config.json"},
             {'g', "m.gguf"},
             {'i', "model.safetensors.index.json"},
             {'l', "lbrx.json"},
             {'o', "model-00001-of-00002.safetensors"},
             {'p', "model-00002-of-00002.safetensors"},
             {'s', "model.safetensors"},
             {'x', "m-00001-of-00002.gguf"},
             {'y', "m-00002-of-00002.gguf"}};
static char folder[64];
static int folder_fd = -1;

static void remove_folder(void) {
    (void)lb_os_remove_tree(folder, NULL);
}

static void make_folder(void) {
    bool shm = lb_os_exists("/dev/shm");
    (void)snprintf(folder, sizeof folder, "%s/lbrx-fuzz-XXXXXX", shm ? "/dev/shm" : "/tmp");
    LB_ASSERT(mkdtemp(folder));
    folder_fd = open(folder, O_RDONLY | O_DIRECTORY);
    LB_ASSERT(folder_fd >= 0);
    (void)atexit(remove_folder);
}

static void put_file(const char *name, lb_str bytes, bool *there) {
    if (!bytes.ptr) {
        if (*there)
            (void)unlinkat(folder_fd, name, 0);
        *there = false;
        return;
    }
    int fd = openat(folder_fd, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    *there = true;
    LB_ASSERT(fd >= 0 && (bytes.len == 0 || write(fd, bytes.ptr, bytes.len) == (ssize_t)bytes.len));
    (void)close(fd);
}

static void check(const lb_source *s, lb_arena *a) {
    lb_inspect info;
    lb_buf json = {0};
    lb_err err = {0};
    for (u64 i = 0; i < s->n_tensors; i++) {
        const lb_tensor *t = &s->tensors[i];
        LB_ASSERT(t->file < s->n_files);
        LB_ASSERT(t->off_bytes <= s->files[t->file].size_bytes &&
                  t->size_bytes <= s->files[t->file].size_bytes - t->off_bytes);
        LB_ASSERT(lb_source_tensor(s, t->name) == t);
    }
    for (u64 i = 0; i < s->n_weights; i++)
        for (u32 k = 0; k < s->weights[i].n_parts; k++)
            LB_ASSERT(s->weights[i].part[k] < s->n_tensors);
    if (lb_inspect_run(&info, s, a, &err) == LB_OK)
        (void)lb_inspect_json(&info, &json, &err);
    lb_buf_deinit(&json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static bool there[LB_LEN(files)];
    lb_arena arena = {.max_bytes = 64 * LB_MIB};
    lb_source *s = NULL;
    lb_err err = {0};
    parts p;
    parts_split(&p, data, size);
    if (!folder[0])
        make_folder();
    lb_str what = part(&p, 'a');
    const char *path = folder;
    for (u32 i = 0; i < LB_LEN(files); i++) {
        put_file(files[i].name, part(&p, files[i].letter), &there[i]);
        if (what.len == 1 && what.ptr[0] == files[i].letter)
            path = lb_os_join(&arena, folder, lb_str_c(files[i].name));
    }
    if (lb_open_any(&s, path, &err) == LB_OK)
        check(s, &arena);
    else
        LB_ASSERT(err.msg[0]);
    lb_source_close(&s);
    lb_arena_deinit(&arena);
    return 0;
}
