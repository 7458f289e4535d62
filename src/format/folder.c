/* SPDX-License-Identifier: Apache-2.0 */
/* folder.c: opens a model folder: which files, which format, weights, side files, notes.
 *
 * Order of work: list the folder; choose the weight files; read their headers; compare with the
 * index; read config.json; decide HF or MLX; refuse other tools' quantization; make weights.
 * Which weight files: transformers 5.23.0 _get_resolved_checkpoint_files (model.safetensors goes
 * before the index) and mlx-lm 0.32.2 load_model (model*.safetensors). */
#include "format/folder.h"

#include "base/interrupt.h"
#include "base/os.h"
#include "format/foreign.h"
#include "format/mlx.h"
#include "format/npz.h"
#include "format/pytorch.h"
#include "format/safetensors.h"
#include "io/json.h"

#include <stdio.h>
#include <stdlib.h>

typedef unsigned long long ull;

#define NAMES_SHOWN 3 /* of a list in a message */

/* The names of a format of weights, and what of it the folder has. */
typedef struct weight_names {
    const char *single, *index, *stem, *ending;
} weight_names;
enum { SAFETENSORS, PYTORCH, NPZ, PEFT, N_KINDS };
static const weight_names kinds[N_KINDS] = {
    {"model.safetensors", LB_INDEX_NAME, "model", ".safetensors"},
    {"pytorch_model.bin", LB_PT_INDEX_NAME, "pytorch_model", ".bin"},
    {"weights.npz", "weights.npz.index.json", "weights", ".npz"}, /* MLX before safetensors */
    {"adapter_model.bin", "adapter_model.bin.index.json", "adapter_model", ".bin"}, /* PEFT */
};
typedef struct weight_files {
    lb_str *names; /* sorted */
    u64 n;
    bool has_index, has_single;
} weight_files;

typedef struct folder {
    lb_source *s;
    lb_arena scratch;
    lb_buf notes, sides; /* sides: lb_side_file, unsorted */
    weight_files
        files[N_KINDS]; /* *.safetensors; pytorch_model*.bin; weights*.npz; adapter_model*.bin */
    lb_map by_name;     /* of them all */
    lb_str *others;     /* weights in other formats, sorted */
    u64 n_others;
    const weight_names *kind; /* of the files that are read */
    const weight_files *w;
    bool use_index;
    lb_index index;
    lb_str *chosen; /* weight files to read, in order */
    u64 n_chosen;
    lb_err *err;
} folder;

static lb_status no_mem(folder *f) {
    return lb_fail(f->err, LB_E_NOMEM, "out of memory");
}

static void note(folder *f, const char *fmt, ...) LB_PRINTF(2, 3);
static void note(folder *f, const char *fmt, ...) {
    char line[LB_ERR_MSG_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    if (f->notes.len)
        lb_buf_put_u8(&f->notes, '\n');
    lb_buf_put_c(&f->notes, line);
}

/* "a, b, c and 4 more" for messages. */
typedef struct some_names {
    lb_buf text;
    u64 n;
} some_names;

static void some_add(some_names *l, lb_str name) {
    if (l->n < NAMES_SHOWN) {
        if (l->n)
            lb_buf_put_c(&l->text, ", ");
        lb_buf_put_str(&l->text, lb_str_sub(name, 0, 100));
    }
    l->n++;
}

static lb_str some_text(some_names *l) {
    if (l->n > NAMES_SHOWN)
        lb_buf_printf(&l->text, " and %llu more", (ull)(l->n - NAMES_SHOWN));
    return lb_buf_str(&l->text);
}

/* ---- what is in the folder ---- */

static bool ends_with_any(lb_str name, const char *const *suffixes) {
    for (; *suffixes; suffixes++)
        if (lb_str_ends(name, lb_str_c(*suffixes)))
            return true;
    return false;
}

static const char *const torch_suffixes[] = {".bin", ".pt", ".pth", ".ckpt", ".pkl", NULL};
static const char *const other_suffixes[] = {".gguf", ".ggml",      ".npz",    ".h5", ".msgpack",
                                             ".onnx", ".onnx_data", ".tflite", NULL};

/* N_KINDS: no weights that can be read here. */
static u32 kind_of(lb_str name) {
    if (lb_str_ends(name, lb_str_c(kinds[SAFETENSORS].ending)))
        return SAFETENSORS;
    for (u32 k = PYTORCH; k < N_KINDS; k++)
        if (lb_str_starts(name, lb_str_c(kinds[k].stem)) &&
            lb_str_ends(name, lb_str_c(kinds[k].ending)))
            return k;
    return N_KINDS;
}

static lb_status add_side(folder *f, lb_str name, u64 size_bytes) {
    lb_source *s = f->s;
    lb_side_file side = {.name = lb_arena_str(&s->perm, name),
                         .path = lb_os_join(&s->perm, s->path, name),
                         .size_bytes = size_bytes};
    lb_buf_put(&f->sides, &side, sizeof side);
    return side.name.ptr && side.path && !f->sides.oom ? LB_OK : no_mem(f);
}

static lb_status add_file(folder *f, lb_str name, u64 size_bytes) {
    u32 k = kind_of(name);
    if (k < N_KINDS) {
        weight_files *w = &f->files[k];
        LB_TRY(lb_map_put(&f->by_name, name, w->n, NULL, f->err));
        w->has_single = w->has_single || lb_str_eq_c(name, kinds[k].single);
        w->names[w->n++] = name;
    } else if (lb_str_ends(name, LB_STR(".index.json"))) {
        for (k = 0; k < N_KINDS; k++)
            f->files[k].has_index = f->files[k].has_index || lb_str_eq_c(name, kinds[k].index);
    } else if (ends_with_any(name, torch_suffixes) || ends_with_any(name, other_suffixes)) {
        f->others[f->n_others++] = name;
    } else {
        return add_side(f, name, size_bytes);
    }
    return LB_OK;
}

/* The files of a folder inside, named "FOLDER/FILE": those that end in `ending`; NULL: all. */
static lb_status add_inside(folder *f, lb_str inside, const char *ending) {
    lb_str *names;
    u64 n;
    const char *dir = lb_os_join(&f->scratch, f->s->path, inside);
    if (!dir)
        return no_mem(f);
    LB_TRY(lb_os_list(dir, &f->scratch, &names, &n, f->err));
    for (u64 i = 0; i < n; i++) {
        lb_fstat st;
        const char *path = lb_os_join(&f->scratch, dir, names[i]);
        lb_str name = lb_arena_printf(&f->scratch, "%.*s/%.*s", LB_FMT(inside), LB_FMT(names[i]));
        if (!path || !name.ptr)
            return no_mem(f);
        if (lb_str_is_file_name(names[i]) && names[i].ptr[0] != '.' &&
            (!ending || lb_str_ends(name, lb_str_c(ending))) &&
            lb_os_stat(path, &st, NULL) == LB_OK && st.is_file)
            LB_TRY(add_side(f, name, st.size_bytes));
    }
    return LB_OK;
}

/* The parts of an embedding model behind the language model (1_Pooling, 2_Dense): modules.json of
 * sentence-transformers names their folders. What is wrong with it is for those who need it. */
static lb_status add_modules(folder *f, u64 *n_dirs) {
    lb_str text, path;
    lb_json *modules;
    const char *file = lb_os_join(&f->scratch, f->s->path, LB_STR("modules.json"));
    if (!file)
        return no_mem(f);
    if (lb_os_read_file(file, LB_MIB, &f->scratch, &text, NULL) != LB_OK ||
        lb_json_parse(text, "modules.json", &f->scratch, &modules, NULL) != LB_OK)
        return LB_OK;
    for (const lb_json *m = modules->first; m; m = m->next) {
        lb_fstat st;
        if (!lb_json_as_str(lb_json_get(m, "path"), &path) || !lb_str_is_file_name(path) ||
            lb_str_eq_c(path, LB_CHAT_TEMPLATES_DIR))
            continue;
        const char *dir = lb_os_join(&f->scratch, f->s->path, path);
        bool twice = false;
        for (const lb_json *o = modules->first; o != m; o = o->next) {
            lb_str other;
            twice |= lb_json_as_str(lb_json_get(o, "path"), &other) && lb_str_eq(other, path);
        }
        if (!dir || twice || lb_os_stat(dir, &st, NULL) != LB_OK || !st.is_dir)
            continue;
        LB_TRY(add_inside(f, path, NULL));
        *n_dirs -= *n_dirs > 0;
    }
    return LB_OK;
}

static int by_name(const void *a, const void *b) {
    return lb_str_cmp(((const lb_side_file *)a)->name, ((const lb_side_file *)b)->name);
}

/* lb_source_side searches by bisection. */
static lb_status sort_sides(folder *f) {
    u64 n = f->sides.len / sizeof(lb_side_file);
    f->s->sides = lb_arena_new(&f->s->perm, lb_side_file, n);
    if (!f->s->sides && n)
        return no_mem(f);
    if (n) {
        memcpy(f->s->sides, f->sides.ptr, f->sides.len);
        qsort(f->s->sides, (size_t)n, sizeof *f->s->sides, by_name);
    }
    f->s->n_sides = n;
    return LB_OK;
}

static lb_status list(folder *f) {
    lb_str *names;
    u64 n, n_dirs = 0;
    LB_TRY(lb_os_list(f->s->path, &f->scratch, &names, &n, f->err));
    for (u32 k = 0; k < N_KINDS; k++) {
        f->files[k].names = lb_arena_new(&f->scratch, lb_str, n);
        if (!f->files[k].names)
            return no_mem(f);
    }
    f->others = lb_arena_new(&f->scratch, lb_str, n);
    f->chosen = lb_arena_new(&f->scratch, lb_str, n);
    if (!f->others || !f->chosen)
        return no_mem(f);
    for (u64 i = 0; i < n; i++) {
        lb_fstat st;
        if (names[i].len == 0 || names[i].ptr[0] == '.')
            continue;
        const char *path = lb_os_join(&f->scratch, f->s->path, names[i]);
        if (!path)
            return no_mem(f);
        lb_status rc = lb_os_stat(path, &st, NULL);
        if (rc == LB_E_NOT_FOUND) {
            note(f, "'%.*s' is a link to nothing: left out", LB_FMT(names[i]));
            continue;
        }
        if (rc != LB_OK)
            return lb_os_stat(path, &st, f->err);
        if (st.is_dir && lb_str_eq_c(names[i], LB_CHAT_TEMPLATES_DIR))
            LB_TRY(add_inside(f, names[i], ".jinja"));
        else if (st.is_dir)
            n_dirs++;
        else if (st.is_file)
            LB_TRY(add_file(f, names[i], st.size_bytes));
    }
    LB_TRY(add_modules(f, &n_dirs));
    if (n_dirs)
        note(f, "%llu folder%s inside %s not looked into", (ull)n_dirs, n_dirs == 1 ? "" : "s",
             n_dirs == 1 ? "was" : "were");
    return sort_sides(f);
}

/* ---- which files are the weights ---- */

/* "<stem>-00002-of-00007.safetensors"; 5 digits as both peers write them, or more, but no u64. */
static bool shard_name(const folder *f, lb_str name, lb_str *stem, u64 *i, u64 *n) {
    lb_str s = lb_str_sub(name, 0, name.len - strlen(f->kind->ending));
    size_t digits = 0;
    while (digits < s.len && s.ptr[s.len - 1 - digits] >= '0' && s.ptr[s.len - 1 - digits] <= '9')
        digits++;
    if (digits < 5 || digits > 9 || s.len < 2 * digits + 5 ||
        !lb_str_to_u64(lb_str_sub(s, s.len - digits, s.len), n))
        return false;
    s = lb_str_sub(s, 0, s.len - digits);
    if (!lb_str_ends(s, LB_STR("-of-")))
        return false;
    s = lb_str_sub(s, 0, s.len - 4);
    if (!lb_str_to_u64(lb_str_sub(s, s.len - digits, s.len), i) || s.ptr[s.len - digits - 1] != '-')
        return false;
    *stem = lb_str_sub(s, 0, s.len - digits - 1);
    return true;
}

static lb_status refuse_no_weights(folder *f) {
    if (f->n_others == 0)
        return lb_fail(f->err, LB_E_NOT_FOUND,
                       "no weights in this folder: expected model.safetensors or " LB_INDEX_NAME
                       " with its shards");
    lb_str name = f->others[0];
    bool torch = ends_with_any(name, torch_suffixes);
    if (lb_str_ends(name, LB_STR(".gguf")))
        return lb_fail(f->err, LB_E_UNSUPPORTED,
                       "no safetensors in this folder: give '%.*s' itself", LB_FMT(name));
    return lb_fail(
        f->err, LB_E_UNSUPPORTED, "no safetensors in this folder, but '%.*s'%s", LB_FMT(name),
        torch ? " (PyTorch): if it is the model, give it itself" : ": not supported yet");
}

static bool is_torch(const folder *f) {
    return f->kind == &kinds[PYTORCH] || f->kind == &kinds[PEFT];
}

static void add_missing(some_names *missing, u64 i, u64 n) {
    char name[64];
    int len = snprintf(name, sizeof name, "%05llu-of-%05llu", (ull)i, (ull)n);
    some_add(missing, (lb_str){name, (size_t)len});
}

/* Shards without an index: all of one numbered set, none missing. The names are sorted, and have
 * the same number of digits, so they come in the order of their numbers. */
static lb_status choose_numbered(folder *f, lb_str stem, u64 n) {
    some_names missing = {0};
    lb_status st = LB_OK;
    u64 expected = 1;
    for (u64 k = 0; k <= f->w->n; k++) {
        lb_str s;
        u64 i = n + 1, of = n; /* behind the last file: what is missing at the end */
        if (k < f->w->n && (!shard_name(f, f->w->names[k], &s, &i, &of) || of != n ||
                            !lb_str_eq(s, stem) || i < expected || i > n))
            continue;
        for (u64 j = expected; j < i && missing.n < NAMES_SHOWN; j++)
            add_missing(&missing, j, n);
        if (i <= n)
            f->chosen[f->n_chosen++] = f->w->names[k];
        expected = i + 1;
    }
    if (missing.n) {
        missing.n = n - f->n_chosen;
        lb_str text = some_text(&missing);
        st = lb_fail(f->err, LB_E_NOT_FOUND, "%llu of %llu shards of '%.*s' are missing: %.*s",
                     (ull)missing.n, (ull)n, LB_FMT(stem), LB_FMT(text));
    } else {
        note(f, "no index: the %llu shards of '%.*s' are read", (ull)n, LB_FMT(stem));
    }
    lb_buf_deinit(&missing.text);
    return st;
}

/* Neither model.safetensors nor an index: a numbered set, else model*.safetensors, else the only
 * one. */
static lb_status choose_unindexed(folder *f) {
    lb_str stem = {0}, s;
    u64 n = 0, i, k, n_sets = 0, n_models = 0;
    lb_str name = lb_str_c(f->kind->stem);
    if (f->w->n == 0)
        return refuse_no_weights(f);
    for (k = 0; k < f->w->n; k++) {
        u64 of;
        n_models += lb_str_starts(f->w->names[k], name);
        if (!shard_name(f, f->w->names[k], &s, &i, &of))
            continue;
        if (n_sets == 0 || of != n || !lb_str_eq(s, stem)) {
            if (n_sets++ == 0) {
                stem = s;
                n = of;
            } else if (lb_str_eq(s, name) && !lb_str_eq(stem, name)) {
                stem = s; /* other sets (consolidated-*, a variant) stay aside */
                n = of;
                n_sets = 1;
            } else if (lb_str_eq(stem, name) && !lb_str_eq(s, name)) {
                n_sets--;
            }
        }
    }
    if (n_sets == 1)
        return choose_numbered(f, stem, n);
    if (n_sets > 1)
        return lb_fail(
            f->err, LB_E_FORMAT,
            "no index, and more than one set of numbered shards (%.*s-*-of-%05llu and others): "
            "remove all but one",
            LB_FMT(stem), (ull)n);
    if (n_models == 0 && f->w->n > 1)
        return lb_fail(f->err, LB_E_FORMAT,
                       "%llu safetensors files and none is called model*: give one of them itself",
                       (ull)f->w->n);
    if (is_torch(f) && f->w->n > 1) /* variants: nobody reads them together */
        return lb_fail(
            f->err, LB_E_FORMAT,
            "%llu files are called pytorch_model*.bin and there is no index: give one of "
            "them itself",
            (ull)f->w->n);
    for (k = 0; k < f->w->n; k++)
        if (n_models == 0 || lb_str_starts(f->w->names[k], name))
            f->chosen[f->n_chosen++] = f->w->names[k];
    note(f, "no %s and no index: '%.*s'%s read", f->kind->single, LB_FMT(f->chosen[0]),
         f->n_chosen == 1 ? " is" : " and the other model*.safetensors are");
    return LB_OK;
}

static lb_status read_index(folder *f) {
    lb_str text;
    const char *path = lb_os_join(&f->scratch, f->s->path, lb_str_c(f->kind->index));
    if (!path)
        return no_mem(f);
    LB_TRY(lb_os_read_file(path, LB_INDEX_MAX, &f->scratch, &text, f->err));
    return lb_index_parse(text, f->kind->index, f->kind->ending, &f->scratch, &f->index, f->err);
}

static lb_status choose_indexed(folder *f) {
    some_names absent = {0};
    lb_status st = LB_OK;
    for (u32 i = 0; i < f->index.n_shards; i++)
        if (lb_map_find(&f->by_name, f->index.shards[i], NULL))
            f->chosen[f->n_chosen++] = f->index.shards[i];
        else
            some_add(&absent, f->index.shards[i]);
    if (absent.n) {
        lb_str text = some_text(&absent);
        st = lb_fail(f->err, LB_E_NOT_FOUND,
                     "the index names %u shards, %llu of them are not here: %.*s",
                     f->index.n_shards, (ull)absent.n, LB_FMT(text));
    }
    lb_buf_deinit(&absent.text);
    f->use_index = true;
    return st;
}

static bool index_names(const folder *f, const char *name) {
    for (u32 i = 0; i < f->index.n_shards; i++)
        if (lb_str_eq_c(f->index.shards[i], name))
            return true;
    return false;
}

/* Safetensors of the model go before PyTorch's files, as in transformers; a lone file of another
 * name (an adapter, a part) does not. */
static void choose_kind(folder *f) {
    const weight_files *st = &f->files[SAFETENSORS], *pt = &f->files[PYTORCH];
    bool has_model = st->has_index, has_pt = pt->n || pt->has_index, has_npz = f->files[NPZ].n != 0;
    for (u64 i = 0; i < st->n && !has_model; i++)
        has_model = lb_str_starts(st->names[i], lb_str_c(kinds[SAFETENSORS].stem));
    bool has_peft = !st->n && f->files[PEFT].has_single;
    u32 k = has_model  ? SAFETENSORS
            : has_pt   ? PYTORCH
            : has_npz  ? NPZ
            : has_peft ? PEFT
                       : SAFETENSORS;
    f->kind = &kinds[k];
    f->w = &f->files[k];
    if (has_model && has_pt)
        note(f, "safetensors go before pytorch_model*.bin, as in transformers");
}

static lb_status choose(folder *f) {
    choose_kind(f);
    const char *single = f->kind->single;
    if (f->w->has_index)
        LB_TRY(read_index(f));
    if (f->w->has_single && (!f->w->has_index || !index_names(f, single))) {
        f->chosen[f->n_chosen++] = lb_str_c(single);
        if (f->w->has_index)
            note(f, "%s goes before the index, as in transformers: the index is not read", single);
        return LB_OK;
    }
    return f->w->has_index ? choose_indexed(f) : choose_unindexed(f);
}

static lb_status note_unread(folder *f) {
    some_names unread = {0};
    lb_map chosen = {0};
    lb_status st = LB_OK;
    for (u64 i = 0; st == LB_OK && i < f->n_chosen; i++)
        st = lb_map_put(&chosen, f->chosen[i], i, NULL, f->err);
    for (u32 k = 0; k < N_KINDS; k++)
        for (u64 i = 0; i < f->files[k].n; i++)
            if (!lb_map_find(&chosen, f->files[k].names[i], NULL))
                some_add(&unread, f->files[k].names[i]);
    for (u64 i = 0; i < f->n_others; i++)
        some_add(&unread, f->others[i]);
    if (unread.n) {
        lb_str text = some_text(&unread);
        note(f, "%llu other weight file%s not read: %.*s", (ull)unread.n,
             unread.n == 1 ? " is" : "s are", LB_FMT(text));
    }
    lb_buf_deinit(&unread.text);
    lb_map_deinit(&chosen);
    return st;
}

/* ---- reading ---- */

static lb_status read_weights(folder *f) {
    for (u64 i = 0; i < f->n_chosen; i++) {
        lb_str name = lb_arena_str(&f->s->perm, f->chosen[i]);
        const char *path = lb_os_join(&f->s->perm, f->s->path, f->chosen[i]);
        LB_TRY(lb_interrupt_check(f->err));
        if (!name.ptr || !path)
            return no_mem(f);
        LB_TRY(is_torch(f)              ? lb_pt_read(f->s, path, name, &f->notes, f->err)
               : f->kind == &kinds[NPZ] ? lb_npz_read(f->s, path, name, f->err)
                                        : lb_st_read(f->s, path, name, f->err));
    }
    return LB_OK;
}

/* Every tensor stands where the index says, and the index says no more. */
static lb_status check_index(folder *f) {
    some_names only_index = {0}, only_shards = {0}, elsewhere = {0};
    lb_map by_name = {0};
    lb_status st = LB_OK;
    for (u64 i = 0; i < f->index.n_entries; i++) {
        const lb_index_entry *e = &f->index.entries[i];
        const lb_tensor *t = lb_source_tensor(f->s, e->tensor);
        if (!t)
            some_add(&only_index, e->tensor);
        else if (!lb_str_eq(f->s->files[t->file].name, f->index.shards[e->shard]))
            some_add(&elsewhere, e->tensor);
        LB_TRY_DONE(st, lb_map_put(&by_name, e->tensor, i, NULL, f->err));
    }
    for (u64 i = 0; i < f->s->n_tensors; i++)
        if (!lb_map_find(&by_name, f->s->tensors[i].name, NULL))
            some_add(&only_shards, f->s->tensors[i].name);
    if (only_index.n || only_shards.n || elsewhere.n) {
        some_names *first = only_index.n ? &only_index : only_shards.n ? &only_shards : &elsewhere;
        lb_str text = some_text(first);
        st = lb_fail(f->err, LB_E_FORMAT,
                     "%s does not agree with the shards: %llu tensors only in the index, %llu only "
                     "in the shards, %llu in another shard (%.*s)",
                     f->kind->index, (ull)only_index.n, (ull)only_shards.n, (ull)elsewhere.n,
                     LB_FMT(text));
    }
done:
    lb_map_deinit(&by_name);
    lb_buf_deinit(&only_index.text);
    lb_buf_deinit(&only_shards.text);
    lb_buf_deinit(&elsewhere.text);
    return st;
}

/* A side file as a JSON object; *out is NULL where there is none. text may be NULL. */
static lb_status read_json(folder *f, const char *name, lb_arena *arena, lb_str *text,
                           lb_json **out) {
    lb_str bytes;
    const lb_side_file *side = lb_source_side(f->s, lb_str_c(name));
    *out = NULL;
    if (!side)
        return LB_OK;
    LB_TRY(lb_side_read(side, LB_CONFIG_MAX, arena, &bytes, f->err));
    if (text)
        *text = bytes;
    LB_TRY(lb_json_parse(bytes, name, &f->scratch, out, f->err));
    if ((*out)->type != LB_JOBJECT)
        return lb_fail(f->err, LB_E_FORMAT, "%s is not a JSON object", name);
    return LB_OK;
}

/* transformers reads another file if the config names one: that must be the one read here. */
static lb_status check_named_file(folder *f, const lb_json *config) {
    lb_str name;
    if (!lb_json_as_str(lb_json_get(config, "transformers_weights"), &name))
        return LB_OK;
    if (f->use_index ? lb_str_eq_c(name, f->kind->index)
                     : f->n_chosen == 1 && lb_str_eq(name, f->chosen[0]))
        return LB_OK;
    return lb_fail(
        f->err, LB_E_UNSUPPORTED,
        "config.json names '%.*s' as the weights (transformers_weights): not supported yet",
        LB_FMT(name));
}

/* HF or MLX, other tools' work refused, weights made. */
static lb_status interpret(folder *f) {
    lb_source *s = f->s;
    lb_json *config, *modelopt, *gptq, *awq;
    lb_mlx_quant quant = {0};
    lb_status st = LB_OK;
    lb_str written_by = {0};
    bool packed, made;
    LB_TRY_DONE(st, read_json(f, "config.json", &s->perm, &s->config, &config));
    LB_TRY_DONE(st, check_named_file(f, config));
    LB_TRY_DONE(st, read_json(f, "hf_quant_config.json", &f->scratch, NULL, &modelopt));
    LB_TRY_DONE(st, read_json(f, "quantize_config.json", &f->scratch, NULL, &gptq));
    LB_TRY_DONE(st, read_json(f, "quant_config.json", &f->scratch, NULL, &awq));
    LB_TRY_DONE(st, lb_mlx_quant_parse(config, &f->scratch, &quant, f->err));
    LB_TRY_DONE(st, lb_mlx_is_packed(s, &packed, f->err));
    lb_st_metadata_find(s->st_metadata, LB_STR("format"), &f->scratch, &written_by);
    bool mlx =
        lb_str_eq_c(written_by, "mlx") || (quant.present && packed) || f->kind == &kinds[NPZ];
    bool own = mlx && quant.present;
    s->format = mlx ? LB_FORMAT_MLX : LB_FORMAT_HF;
    lb_foreign_files files = {config, modelopt, gptq, awq};
    if (own)
        files = (lb_foreign_files){0};
    LB_TRY_DONE(st, lb_foreign_open(s, &files, mlx, &f->notes, &made, f->err));
    if (!made)
        LB_TRY_DONE(st, mlx || packed ? lb_mlx_weights(s, &quant, f->err)
                                      : lb_source_add_all_plain(s, f->err));
done:
    lb_mlx_quant_deinit(&quant);
    return st;
}

static lb_status keep_notes(folder *f) {
    LB_TRY(lb_buf_status(&f->notes, f->err));
    if (f->notes.len == 0)
        return LB_OK;
    f->s->notes = lb_arena_str(&f->s->perm, lb_buf_str(&f->notes));
    return f->s->notes.ptr ? LB_OK : no_mem(f);
}

/* Errors of the system name their path already. */
static lb_status named(folder *f, lb_status st) {
    if (st != LB_OK && st != LB_E_IO)
        lb_err_context(f->err, "%s", f->s->path);
    return st;
}

lb_status lb_folder_open(lb_source **out, const char *path, lb_err *err) {
    folder f = {.err = err};
    lb_fstat info;
    lb_status st = LB_OK;
    *out = NULL;
    LB_TRY(lb_os_stat(path, &info, err));
    if (!info.is_dir)
        return lb_fail(err, LB_E_FORMAT, "%s: not a folder", path);
    f.s = lb_source_new(LB_FORMAT_HF, path);
    if (!f.s)
        LB_TRY_DONE(st, no_mem(&f));
    LB_TRY_DONE(st, list(&f));
    LB_TRY_DONE(st, named(&f, choose(&f)));
    LB_TRY_DONE(st, note_unread(&f));
    LB_TRY_DONE(st, read_weights(&f));
    if (f.use_index)
        LB_TRY_DONE(st, named(&f, check_index(&f)));
    LB_TRY_DONE(st, named(&f, interpret(&f)));
    LB_TRY_DONE(st, keep_notes(&f));
    *out = f.s;
    f.s = NULL;
done:
    lb_source_close(&f.s);
    lb_map_deinit(&f.by_name);
    lb_buf_deinit(&f.notes);
    lb_buf_deinit(&f.sides);
    lb_arena_deinit(&f.scratch);
    return st;
}
