/* SPDX-License-Identifier: Apache-2.0 */
/* open.c: looks at the first bytes of what a MODEL argument names and hands it to its reader. */
#include "ops/open.h"
#include "base/os.h"
#include "format/folder.h"
#include "format/gguf.h"
#include "format/imatrix.h"
#include "format/pytorch.h"
#include "format/safetensors.h"
#include "ops/hub.h"
#include "ops/lora.h"
#include "ops/merge.h"
#include "ops/moe.h"
#include <limits.h>
#include <stdlib.h>

#define HEAD_BYTES 16

/* OWNER/NAME, as other tools take a model of the hub. */
static bool is_hub_name(const char *arg) {
    lb_str s = lb_str_c(arg);
    size_t slash;
    return lb_str_find(s, LB_STR("/"), &slash) && lb_hub_is_plain(lb_str_sub(s, 0, slash)) &&
           lb_hub_is_plain(lb_str_sub(s, slash + 1, s.len));
}

/* A path that exists is taken as it stands, so this only words the refusal of one that doesn't. */
static lb_status absent(const char *arg, lb_err *err) {
    const char *plus = strrchr(arg, '+');
    if (!*arg)
        return lb_fail(err, LB_E_USAGE, "the name of a model is empty");
    if (plus && plus != arg && plus[1]) {
        lb_arena a = {0};
        lb_str base = lb_arena_str(&a, (lb_str){arg, (size_t)(plus - arg)});
        bool both = base.ptr && lb_os_exists(base.ptr) && lb_os_exists(plus + 1);
        lb_arena_deinit(&a);
        if (both)
            return lb_fail(err, LB_E_UNSUPPORTED,
                           "%s: MODEL+ADAPTER is computed: give what `lbrx lora fuse` makes of it",
                           arg);
    }
    if (is_hub_name(arg))
        return lb_fail(err, LB_E_NOT_FOUND,
                       "%s: no such file or folder: a model of the hub is called hf://%s", arg,
                       arg);
    return lb_fail(err, LB_E_NOT_FOUND, "%s: no such file or folder", arg);
}

static bool has_ending(const char *path, const char *ending) {
    return lb_str_ends(lb_str_c(path), lb_str_c(ending));
}

/* 8 bytes of header length, little-endian, then a JSON object. */
static bool is_safetensors(const u8 *head, size_t n, u64 size_bytes) {
    u64 len;
    if (n < 9 || head[8] != '{')
        return false;
    len = lb_load_u64(head);
    return len >= 2 && len <= size_bytes - 8;
}

/* What a file is that is none of ours. */
static lb_status refuse_file(const char *path, const u8 *head, size_t n, u64 size_bytes,
                             lb_err *err) {
    if (has_ending(path, ".yml") || has_ending(path, ".yaml"))
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "%s: a merge file: not taken here, but what `lbrx "
                       "merge` makes of it",
                       path);
    if (has_ending(path, ".json"))
        return lb_fail(err, LB_E_FORMAT, "%s: not a model: give the folder that it stands in",
                       path);
    if (n >= 9 && head[8] == '{')
        return lb_fail(
            err, LB_E_FORMAT,
            "%s: the header of a safetensors file says %llu bytes and the file has %llu: "
            "is it complete?",
            path, (unsigned long long)lb_load_u64(head), (unsigned long long)size_bytes);
    if (n >= 8 && memcmp(head, "version ", 8) == 0)
        return lb_fail(
            err, LB_E_FORMAT,
            "%s: this is a Git LFS pointer, not the file itself: fetch it (git lfs pull)", path);
    if (n && head[0] == '<')
        return lb_fail(err, LB_E_FORMAT,
                       "%s: this is a web page or XML, not the file itself: fetch it again", path);
    return lb_fail(err, LB_E_FORMAT,
                   "%s: neither GGUF, safetensors nor PyTorch, nor a folder of a model", path);
}

static lb_status open_stored(lb_source **out, const char *arg, lb_err *err);

/* A model in the hub's cache is called by its id: the snapshot's folder has a commit's name. */
static lb_status open_hub(lb_source **out, const char *arg, lb_err *err) {
    lb_arena a = {0};
    const char *path;
    lb_str id;
    lb_status st = lb_hub_find(arg, &a, &path, &id, err);
    if (st == LB_OK)
        st = open_stored(out, path, err);
    if (st == LB_OK) {
        (*out)->label = lb_arena_str(&(*out)->perm, id);
        if (!(*out)->label.ptr) {
            lb_source_close(out);
            st = lb_fail(err, LB_E_NOMEM, "out of memory");
        }
    }
    lb_arena_deinit(&a);
    return st;
}

/* `.` and `model/..` are no names: the folder's own counts. */
static lb_status name_folder(lb_source **s, lb_err *err) {
    char real[PATH_MAX];
    lb_str *label = &(*s)->label;
    if ((!lb_str_eq_c(*label, ".") && !lb_str_eq_c(*label, "..")) || !realpath((*s)->path, real))
        return LB_OK;
    *label = lb_arena_str(&(*s)->perm, lb_os_base_name(lb_str_c(real)));
    if (label->ptr)
        return LB_OK;
    lb_source_close(s);
    return lb_fail(err, LB_E_NOMEM, "out of memory");
}

/* A GGUF is a model unless its pairs say otherwise. */
static lb_status open_gguf(lb_source **out, const char *path, lb_err *err) {
    LB_TRY(lb_gguf_open(out, path, err));
    if (!lb_imatrix_is((*out)->gguf))
        return LB_OK;
    lb_source_close(out);
    return lb_imatrix_open(out, path, err);
}

static lb_status open_path(lb_source **out, const char *arg, lb_err *err) {
    lb_fstat st;
    u8 head[HEAD_BYTES] = {0};
    int fd = -1;
    *out = NULL;
    lb_status s = lb_os_stat(arg, &st, err);
    if (s == LB_E_NOT_FOUND)
        return lb_hub_is(arg) ? open_hub(out, arg, err) : absent(arg, err);
    LB_TRY(s);
    if (st.is_dir) {
        LB_TRY(lb_folder_open(out, arg, err));
        return name_folder(out, err);
    }
    if (!st.is_file)
        return lb_fail(err, LB_E_FORMAT, "%s: neither a file nor a folder", arg);
    size_t n = (size_t)LB_MIN(st.size_bytes, (u64)HEAD_BYTES);
    LB_TRY(lb_os_open_read(arg, &fd, err));
    s = lb_os_pread(fd, arg, head, n, 0, err);
    lb_os_close(&fd);
    LB_TRY(s);
    if (lb_gguf_probe(head, n))
        return open_gguf(out, arg, err);
    if (is_safetensors(head, n, st.size_bytes))
        return lb_st_open(out, arg, err);
    if (lb_pt_probe(head, n))
        return lb_pt_open(out, arg, err);
    if (lb_imatrix_probe(head, n))
        return lb_imatrix_open(out, arg, err);
    return refuse_file(arg, head, n, st.size_bytes, err);
}

static lb_status open_stored(lb_source **out, const char *arg, lb_err *err) {
    LB_TRY(open_path(out, arg, err));
    lb_source_trim(*out);
    return LB_OK;
}

static lb_status refuse_importance(lb_source **out, const char *arg, lb_err *err) {
    if ((*out)->format != LB_FORMAT_IMATRIX)
        return LB_OK;
    lb_source_close(out);
    return lb_fail(err, LB_E_UNSUPPORTED,
                   "%s: an importance matrix, not a model: `lbrx inspect` shows it", arg);
}

lb_status lb_open(lb_source **out, const char *arg, lb_err *err) {
    LB_TRY(open_stored(out, arg, err));
    return refuse_importance(out, arg, err);
}

lb_status lb_open_lora(lb_source **out, const char *model, const char *const *adapters,
                       const double *scales, u32 n, lb_err *err) {
    lb_source *base = NULL, *opened[LB_LORA_MAX] = {0};
    if (n > LB_LORA_MAX)
        return lb_fail(err, LB_E_LIMIT, "more than %d adapters on one model", LB_LORA_MAX);
    lb_status st = lb_open_planned(&base, model, err);
    for (u32 i = 0; i < n && st == LB_OK; i++)
        st = lb_open(&opened[i], adapters[i], err);
    if (st == LB_OK)
        st = lb_lora_open(out, &base, opened, scales, n, err);
    for (u32 i = 0; i < n; i++)
        lb_source_close(&opened[i]);
    lb_source_close(&base);
    return st;
}

/* MODEL+ADAPTER. */
static lb_status open_split(lb_source **out, const char *arg, size_t base_len, const size_t *at,
                            u32 n, lb_err *err) {
    lb_arena names = {0};
    const char *adapters[LB_LORA_MAX];
    lb_str base = lb_arena_str(&names, (lb_str){arg, base_len});
    bool ok = base.ptr != NULL;
    for (u32 i = 0; i < n && ok; i++) {
        size_t end = i + 1 < n ? at[i + 1] - 1 : strlen(arg);
        adapters[i] = lb_arena_str(&names, (lb_str){arg + at[i], end - at[i]}).ptr;
        ok = adapters[i] != NULL;
    }
    lb_status st = ok ? lb_open_lora(out, base.ptr, adapters, NULL, n, err)
                      : lb_fail(err, LB_E_NOMEM, "out of memory for names");
    lb_arena_deinit(&names);
    return st;
}

lb_status lb_open_any(lb_source **out, const char *arg, lb_err *err) {
    size_t base_len, at[LB_LORA_MAX];
    lb_fstat st;
    u32 n;
    if (lb_merge_is_file(arg) && lb_os_stat(arg, &st, NULL) == LB_OK && st.is_file)
        return lb_moe_is_file(arg) ? lb_moe_open(out, arg, &(lb_moe_opts){0}, err)
                                   : lb_merge_open(out, arg, &(lb_merge_opts){0}, err);
    lb_lora_split(arg, &base_len, at, &n);
    return n ? open_split(out, arg, base_len, at, n, err) : open_stored(out, arg, err);
}

lb_status lb_open_planned(lb_source **out, const char *arg, lb_err *err) {
    LB_TRY(lb_open_any(out, arg, err));
    return refuse_importance(out, arg, err);
}
