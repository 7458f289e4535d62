/* SPDX-License-Identifier: Apache-2.0 */
/* target.c: what an output may replace: never an input, never what lies around one, and with
 * --force only a file, or a folder that holds nothing but parts of a model: what lbrx.json lists,
 * and names that model folders have by convention. Whatever else stands there is somebody's. */
#include "base/os.h"
#include "format/gguf_split.h"
#include "io/json.h"
#include "plan/sink_internal.h"
#include <limits.h>
#include <stdlib.h>

static bool same(const lb_fstat *a, u64 dev, u64 ino) {
    return a->dev == dev && a->ino == ino;
}

/* Whether dir or a folder above it is (dev, ino). The path is resolved first. */
static bool lies_inside(const char *dir, u64 dev, u64 ino) {
    char real[PATH_MAX];
    bool found = false;
    if (!realpath(dir, real))
        return false;
    for (size_t n = strlen(real); n > 0 && !found; n--) {
        if (real[n] != '/' && real[n] != '\0')
            continue;
        lb_fstat st;
        char end = real[n];
        real[n] = '\0';
        found = lb_os_stat(real, &st, NULL) == LB_OK && same(&st, dev, ino);
        real[n] = end;
    }
    return found;
}

static lb_status refuse_input(const lb_sink *s, const char *input, lb_err *err) {
    return lb_fail(err, LB_E_USAGE,
                   "output '%s' is, contains or lies inside the input '%s': name another output",
                   s->o.path, input);
}

/* Both where a link to the file stands and where the file itself does. */
static bool file_lies_inside(const char *path, const lb_fstat *target, lb_arena *arena) {
    lb_str dir = lb_arena_str(arena, lb_os_dir_name(lb_str_c(path)));
    return lies_inside(path, target->dev, target->ino) ||
           (dir.ptr && lies_inside(dir.ptr, target->dev, target->ino));
}

static lb_status check_source(lb_sink *s, const lb_source *src, bool exists, const lb_fstat *target,
                              lb_err *err) {
    lb_fstat in;
    bool folder = src->format == LB_FORMAT_HF || src->format == LB_FORMAT_MLX;
    for (u64 f = 0; f < src->n_files && exists; f++)
        if (same(target, src->files[f].dev, src->files[f].ino) ||
            (target->is_dir && file_lies_inside(src->files[f].path, target, &s->arena)))
            return refuse_input(s, src->path, err);
    if (!folder || lb_os_stat(src->path, &in, NULL) != LB_OK)
        return LB_OK;
    if ((exists && same(target, in.dev, in.ino)) || lies_inside(s->dir, in.dev, in.ino) ||
        (exists && target->is_dir && lies_inside(src->path, target->dev, target->ino)))
        return refuse_input(s, src->path, err);
    return LB_OK;
}

static bool is_model_part(lb_str name) {
    static const char *const ends[] = {".safetensors", ".index.json", "_config.json",
                                       ".gguf",        ".jinja",      ".model",
                                       ".tiktoken",    ".npz",        ".sha256"};
    static const char *const starts[] = {"LICENSE", "NOTICE", "USE_POLICY", "README",
                                         "pytorch_model"};
    static const char *const code[] = {"modeling_", "configuration_", "tokenization_",
                                       "processing_", "image_processing_"};
    static const char *const names[] = {"config.json",       "tokenizer.json",
                                        "vocab.json",        "special_tokens_map.json",
                                        "params.json",       "tekken.json",
                                        "added_tokens.json", "chat_template.json",
                                        "lbrx.json",         "merges.txt",
                                        "vocab.txt",         "SHA256SUMS",
                                        ".gitattributes",    "sentencepiece.bpe.vocab"};
    for (u32 i = 0; i < LB_LEN(names); i++)
        if (lb_str_eq_c(name, names[i]))
            return true;
    for (u32 i = 0; i < LB_LEN(ends); i++)
        if (lb_str_ends(name, lb_str_c(ends[i])))
            return true;
    for (u32 i = 0; i < LB_LEN(starts); i++)
        if (lb_str_starts(name, lb_str_c(starts[i])))
            return true;
    for (u32 i = 0; i < LB_LEN(code); i++)
        if (lb_str_starts(name, lb_str_c(code[i])) && lb_str_ends(name, LB_STR(".py")))
            return true;
    return false;
}

/* What lbrx.json says that it stands with: copied side files may have any name. NULL: no list. */
static const lb_json *listed_files(lb_sink *s) {
    const char *path = lb_os_join(&s->arena, s->target, LB_STR("lbrx.json"));
    lb_str text;
    lb_json *root = NULL;
    if (!path || lb_os_read_file(path, 256 * LB_MIB, &s->arena, &text, NULL) != LB_OK ||
        lb_json_parse(text, "lbrx.json", &s->arena, &root, NULL) != LB_OK)
        return NULL;
    return lb_json_get(root, "files");
}

static bool is_listed(const lb_json *files, lb_str name) {
    lb_str text;
    for (const lb_json *f = files ? files->first : NULL; f; f = f->next)
        if (lb_json_as_str(f, &text) && lb_str_eq(text, name))
            return true;
    return false;
}

/* Whether it names files inside a folder. */
static bool lists_folder(const lb_json *files, lb_str name) {
    lb_str text;
    for (const lb_json *f = files ? files->first : NULL; f; f = f->next)
        if (lb_json_as_str(f, &text) && lb_str_starts(text, name) && text.len > name.len &&
            text.ptr[name.len] == '/')
            return true;
    return false;
}

typedef struct checking {
    lb_sink *s;
    const lb_json *files; /* of lbrx.json */
    bool asked;
} checking;

static const lb_json *files_of(checking *c) {
    if (!c->asked)
        c->files = listed_files(c->s);
    c->asked = true;
    return c->files;
}

/* A folder is replaced only if everything in it could have been written as part of a model; of
 * folders inside only the one of chat templates, and those whose files lbrx.json lists. within: the
 * name of the folder inside; empty: none. */
static lb_status check_folder(checking *c, const char *folder, lb_str within, lb_err *err) {
    lb_arena *a = &c->s->arena;
    lb_str *names;
    u64 n;
    LB_TRY(lb_os_list(folder, a, &names, &n, err));
    for (u64 i = 0; i < n; i++) {
        lb_fstat st = {0};
        const char *path = lb_os_join(a, folder, names[i]);
        lb_str full = within.len ? lb_arena_printf(a, "%.*s/%.*s", LB_FMT(within), LB_FMT(names[i]))
                                 : names[i];
        if (!path || !full.ptr)
            return lb_fail(err, LB_E_NOMEM, "out of memory for output names");
        bool known = lb_os_stat(path, &st, NULL) == LB_OK, is_file = known && st.is_file;
        bool templates = lb_str_eq_c(within.len ? within : names[i], LB_CHAT_TEMPLATES_DIR);
        if (known && st.is_dir && within.len == 0 &&
            (templates || lists_folder(files_of(c), names[i]))) {
            LB_TRY(check_folder(c, path, names[i], err)); /* recursion: one level */
            continue;
        }
        if (is_file && (within.len == 0 || templates) && is_model_part(names[i]))
            continue;
        if (!is_file || !is_listed(files_of(c), full))
            return lb_fail(err, LB_E_USAGE,
                           "output '%s' holds '%.*s', which is not part of a model: remove it or "
                           "name another output",
                           c->s->o.path, LB_FMT(full));
    }
    return LB_OK;
}

static lb_status check_sources(lb_sink *s, const char *path, lb_err *err) {
    lb_fstat st = {0};
    bool known = lb_os_exists(path) && lb_os_stat(path, &st, NULL) == LB_OK;
    for (u32 i = 0; i < s->plan->graph.n_sources; i++)
        LB_TRY(check_source(s, s->plan->graph.sources[i], known, &st, err));
    return LB_OK;
}

static lb_status exists(const char *path, lb_err *err) {
    return lb_fail(err, LB_E_USAGE, "output '%s' exists: use --force to replace it", path);
}

/* Whether a name is a part of another split of this output: it would stand beside the new parts. */
static bool is_stale(const lb_sink *s, lb_str name) {
    lb_str stem;
    u32 no, count;
    return lb_gguf_split_parse(s->plan->files[0].name, 0, (u32)s->plan->n_files, &stem) &&
           lb_gguf_split_is_part(name, stem, &no, &count) && count != s->plan->n_files;
}

lb_status lb_sink_list_stale(lb_sink *s, lb_err *err) {
    lb_str *names;
    u64 n;
    lb_arena tmp = {0};
    lb_status st = lb_os_list(s->dir, &tmp, &names, &n, err);
    s->n_stale = 0;
    for (u64 i = 0; i < n && st == LB_OK; i++)
        s->n_stale += is_stale(s, names[i]);
    s->stale = lb_arena_new(&s->arena, lb_str, s->n_stale + 1);
    if (st == LB_OK && !s->stale)
        st = lb_fail(err, LB_E_NOMEM, "out of memory for output names");
    for (u64 i = 0, k = 0; i < n && st == LB_OK; i++)
        if (is_stale(s, names[i])) {
            s->stale[k] = lb_arena_str(&s->arena, names[i]);
            if (!s->stale[k++].ptr)
                st = lb_fail(err, LB_E_NOMEM, "out of memory for output names");
        }
    lb_arena_deinit(&tmp);
    return st;
}

/* A device or a pipe: its name would come to stand for a file. */
static lb_status refuse_special(const char *path, bool known, const lb_fstat *st, lb_err *err) {
    if (!known || st->is_file || st->is_dir)
        return LB_OK;
    return lb_fail(err, LB_E_USAGE,
                   "output '%s' is neither a file nor a folder: name another output (--to none "
                   "writes nothing)",
                   path);
}

/* Parts of a split: each of their names, and those of another split under the same name. */
static lb_status check_spread(lb_sink *s, lb_err *err) {
    LB_TRY(lb_sink_list_stale(s, err));
    for (u64 i = 0; i < s->plan->n_files + s->n_stale; i++) {
        lb_fstat st = {0};
        lb_str name =
            i < s->plan->n_files ? s->plan->files[i].name : s->stale[i - s->plan->n_files];
        const char *path = lb_os_join(&s->arena, s->dir, name);
        if (!path)
            return lb_fail(err, LB_E_NOMEM, "out of memory for output names");
        if (!lb_os_exists(path))
            continue;
        bool known = lb_os_stat(path, &st, NULL) == LB_OK;
        LB_TRY(check_sources(s, path, err));
        LB_TRY(refuse_special(path, known, &st, err));
        if (!s->o.force || (known && st.is_dir))
            return exists(path, err);
    }
    return LB_OK;
}

lb_status lb_sink_check_inputs(lb_sink *s, lb_err *err) {
    lb_fstat dir;
    if (lb_os_stat(s->dir, &dir, NULL) != LB_OK || !dir.is_dir)
        return lb_fail(err, LB_E_IO, "output '%s': there is no folder '%s': create it first",
                       s->o.path, s->dir);
    /* what is removed at the start and at the end */
    LB_TRY(check_sources(s, s->partial, err));
    LB_TRY(check_sources(s, s->aside, err));
    return s->o.spread ? LB_OK : check_sources(s, s->target, err);
}

lb_status lb_sink_check_target(lb_sink *s, lb_err *err) {
    lb_fstat target = {0};
    LB_TRY(lb_sink_check_inputs(s, err));
    bool sums = s->o.sha256 && (!s->o.folder || s->o.spread);
    if (sums && !s->o.force && lb_os_exists(s->sums))
        return exists(s->sums, err);
    if (s->o.spread)
        return check_spread(s, err);
    if (!lb_os_exists(s->target))
        return LB_OK;
    bool known = lb_os_stat(s->target, &target, NULL) == LB_OK;
    LB_TRY(refuse_special(s->o.path, known, &target, err));
    if (!s->o.force)
        return exists(s->o.path, err);
    if (known && target.is_dir != s->o.folder)
        return lb_fail(err, LB_E_USAGE,
                       "output '%s' is a %s and would become a %s: name another output", s->o.path,
                       target.is_dir ? "folder" : "file", s->o.folder ? "folder" : "file");
    return s->o.folder ? check_folder(&(checking){.s = s}, s->target, LB_STR_NONE, err) : LB_OK;
}
