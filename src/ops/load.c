/* SPDX-License-Identifier: Apache-2.0 */
/* load.c: see load.h. */
#include "arch/arch_config.h"
#include "arch/arch_graph.h"
#include "base/os.h"
#include "ops/computed.h"
#include "ops/load_internal.h"

#define ALIGN_MADE 64 /* of tensors in the temporary file */

struct lb_loaded {
    const char *arch;
    lb_arena perm;
    lb_maps maps;
    lb_gguf_meta meta;
    lb_mweights weights;
    lb_model *model;
    lb_mapped made; /* what is computed */
    const lb_mapped **files;
};

/* A tensor while the list is made. */
typedef struct entry {
    lb_mat *mats;
    u32 n_mats;
    u64 made_off; /* in the temporary file; UINT64_MAX: it is mapped */
    lb_dtype dtype;
} entry;

typedef struct loading {
    lb_loaded *l;
    const lb_source *s;
    const lb_load_opts *o;
    lb_plan *plan;
    lb_ctensors canon;
    lb_assembly all;
    entry *entry; /* [weights.n] */
    bool upright; /* q and k may stay as Hugging Face's files have them */
    u64 off;      /* end of the temporary file so far */
    u32 file;
    bool any_made;
    lb_err *err;
} loading;

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for the list of tensors");
}

/* ---- metadata ---- */

static lb_status read_meta(loading *x) {
    lb_gguf_meta *meta = &x->l->meta;
    lb_meta_init(meta, &x->l->perm);
    if (x->s->format == LB_FORMAT_GGUF && x->s->gguf) {
        for (u64 i = 0; i < x->s->gguf->n; i++)
            LB_TRY(lb_meta_adopt(meta, &x->s->gguf->kv[i], x->err));
        return LB_OK;
    }
    return lb_arch_meta_run(x->canon.arch, x->canon.config, meta, x->err);
}

/* GGUF's order of rows in pairs and Hugging Face's in halves are the same heads only where all of a
 * head turns. */
static bool heads_turn_whole(const loading *x) {
    lb_str arch = lb_str_c(lb_arch_name(x->canon.arch));
    const lb_hparams *hp = &x->canon.hp;
    u64 n_rot, dim = hp->head_dim;
    return !lb_kv_as_u64(lb_meta_find_arch(&x->l->meta, arch, "rope.dimension_count"), &n_rot) ||
           n_rot == dim;
}

/* ---- tensors ---- */

static u64 up(u64 n) {
    return (n + ALIGN_MADE - 1) / ALIGN_MADE * ALIGN_MADE;
}

/* The type in which a matrix is computed: as it is stored, if that is a float's; else as most are.
 */
static lb_dtype made_type(const loading *x, const lb_made_of *m) {
    lb_dtype t = m->first->dtype;
    if (t == LB_F32 || t == LB_F16 || t == LB_BF16)
        return t;
    t = x->canon.main_dtype;
    return t == LB_F16 || t == LB_F32 ? t : LB_BF16;
}

/* Its rows are to be computed: a job with these roots. */
static lb_status compute(loading *x, lb_mweight *w, entry *e, lb_node_id *roots, u32 n,
                         lb_dtype dtype) {
    lb_graph *g = &x->plan->graph;
    u64 bytes;
    if (!lb_dtype_bytes(dtype, w->n_rows * w->n_cols, &bytes) || bytes > UINT64_MAX / 2 - x->off)
        return lb_fail(x->err, LB_E_LIMIT, "tensor '%.*s' is too large", LB_FMT(w->name));
    if (!x->any_made)
        x->file = lb_plan_file(x->plan, LB_STR_NONE, 0);
    x->any_made = true;
    lb_stream out = {.name = w->name,
                     .dtype = dtype,
                     .shape = &w->shape,
                     .file = x->file,
                     .off_bytes = x->off,
                     .size_bytes = bytes};
    lb_plan_job(x->plan, w->name, &out, 1);
    for (u32 i = 0; i < n; i++) {
        lb_node_id root = lb_expr_encode(g, lb_expr_decode(g, roots[i]), dtype);
        if (lb_graph_node(g, roots[i])->value == LB_VALUE_STORED &&
            lb_expr_is_stored_as(g, roots[i], dtype))
            root = lb_expr_encode(g, roots[i], dtype);
        lb_plan_segment(x->plan, &root);
    }
    *e = (entry){.made_off = x->off, .dtype = dtype};
    x->off = up(x->off + bytes);
    x->plan->files[x->file].size_bytes = x->off;
    return lb_graph_status(g, x->err);
}

/* Matrices of a stack that are stored as one. */
static lb_status unstack(loading *x, lb_mweight *w, entry *e) {
    if (w->n_stack <= 1 || e->n_mats != 1)
        return LB_OK;
    lb_mat *mats = lb_arena_new(&x->l->perm, lb_mat, w->n_stack);
    u64 rows = w->n_rows / w->n_stack;
    if (!mats)
        return oom(x->err);
    for (u64 i = 0; i < w->n_stack; i++)
        mats[i] = lb_mat_part(&e->mats[0], i * rows, rows);
    e->mats = mats;
    e->n_mats = (u32)w->n_stack;
    return LB_OK;
}

/* Each segment as rows that are stored. False: not all are. */
static lb_status use_rows(loading *x, lb_mweight *w, entry *e, const lb_node_id *roots, u32 n,
                          bool *is) {
    e->mats = lb_arena_new(&x->l->perm, lb_mat, n);
    e->n_mats = n;
    e->made_off = UINT64_MAX;
    *is = true;
    if (!e->mats)
        return oom(x->err);
    for (u32 i = 0; i < n && *is; i++) {
        LB_TRY(lb_load_rows(&x->l->maps, &x->plan->graph, roots[i], &e->mats[i], is, x->err));
        *is = *is && e->mats[i].n_cols == w->n_cols && lb_mat_check(&e->mats[i], NULL) == LB_OK;
    }
    *is = *is && (n == 1 || n % w->n_stack == 0);
    return *is ? unstack(x, w, e) : LB_OK;
}

/* Values that GGUF's files hold rounded as the reference converter has them (1 is added in f16) are
 * used as they are. */
static lb_node_id unrounded(const lb_graph *g, lb_node_id n) {
    const lb_node *x = lb_graph_node(g, n);
    return x->kind == LB_NODE_MAP && (x->op == LB_MAP_ROUND_F16 || x->op == LB_MAP_ROUND_BF16)
               ? x->in[0]
               : n;
}

/* The nodes of values under the encodes, those of heads in the order in which they are used. */
static void roots_of(loading *x, lb_mweight *w, const lb_made *made, lb_node_id *out) {
    lb_graph *g = &x->plan->graph;
    for (u32 i = 0; i < made->n_segments; i++) {
        lb_node_id n = lb_graph_node(g, made->segments[i])->in[0];
        if (x->upright) {
            bool decoded = lb_graph_node(g, n)->kind == LB_NODE_DECODE;
            lb_node_id inner = decoded ? lb_graph_node(g, n)->in[0] : n;
            inner = lb_load_unturned(g, inner, &w->upright);
            n = w->upright ? inner : n;
        }
        out[i] = x->s->computed ? n : unrounded(g, n);
    }
}

static lb_status add_tensor(loading *x, const lb_made_of *m, lb_mweight *w, entry *e) {
    lb_made made = {0};
    bool is = false;
    LB_TRY(lb_assembly_make(&x->all, m, LB_F32, UINT64_MAX, &made, x->err));
    LB_TRY(lb_graph_status(&x->plan->graph, x->err));
    *w =
        (lb_mweight){.name = lb_arena_str(&x->l->perm, m->name), .shape = made.shape, .n_stack = 1};
    lb_node_id *roots = lb_arena_new(&x->plan->perm, lb_node_id, made.n_segments);
    if (!w->name.ptr || !roots)
        return oom(x->err);
    lb_shape_matrix(&made.shape, &w->n_rows, &w->n_cols);
    if (made.shape.rank == 3)
        w->n_stack = LB_MAX(made.shape.dim[0], (u64)1);
    roots_of(x, w, &made, roots);
    bool values = lb_mweight_is_values(w->name, &w->shape);
    if (!values)
        LB_TRY(use_rows(x, w, e, roots, made.n_segments, &is));
    return is ? LB_OK : compute(x, w, e, roots, made.n_segments, values ? LB_F32 : made_type(x, m));
}

static bool is_wanted(const lb_made_of *m) {
    return !lb_str_starts(m->name, LB_STR("lbrx."));
}

/* Factors of rope that a config says and GGUF has as tensors. */
static lb_status add_made(loading *x, lb_arch_made_tensor *t, u32 n) {
    for (u32 i = 0; i < n; i++) {
        lb_mweight *w = &x->l->weights.list[x->l->weights.n++];
        *w = (lb_mweight){
            .name = t[i].name, .shape = t[i].shape, .n_stack = 1, .values = t[i].values};
        lb_shape_matrix(&w->shape, &w->n_rows, &w->n_cols);
        x->entry[x->l->weights.n - 1].made_off = UINT64_MAX;
    }
    return LB_OK;
}

/* The same of a GGUF, where conversions leave them out because the config says them. */
static lb_status add_stored_factors(loading *x) {
    static const char *const names[] = {"rope_freqs.weight", "rope_factors_long.weight",
                                        "rope_factors_short.weight"};
    for (size_t i = 0; i < LB_LEN(names); i++) {
        const lb_tensor *t = lb_source_tensor(x->s, lb_str_c(names[i]));
        const u8 *base;
        if (!t)
            continue;
        if (t->dtype != LB_F32)
            return lb_fail(x->err, LB_E_UNSUPPORTED, "tensor '%s' is not of type f32", names[i]);
        LB_TRY(lb_maps_get(&x->l->maps, x->s, t->file, &base, x->err));
        lb_arch_made_tensor made = {t->name, t->shape, NULL};
        float *values = lb_arena_new(&x->l->perm, float, t->n_elems);
        if (!values)
            return oom(x->err);
        memcpy(values, base + t->off_bytes, t->n_elems * sizeof *values);
        made.values = values;
        LB_TRY(add_made(x, &made, 1));
    }
    return LB_OK;
}

static lb_status list_tensors(loading *x) {
    lb_loaded *l = x->l;
    lb_arch_made_tensor *made = NULL;
    u32 n_made = 0;
    x->canon.left_extras = ~1u; /* LB_EXTRA_NONE stays */
    LB_TRY(lb_assemble(x->plan, &x->canon, LB_WORLD_GGUF, NULL, &x->all, x->err));
    if (x->s->format != LB_FORMAT_GGUF)
        LB_TRY(lb_arch_made(x->canon.arch, x->canon.config, &l->perm, &made, &n_made, x->err));
    l->weights.list = lb_arena_new(&l->perm, lb_mweight, x->all.n + n_made + 4);
    x->entry = lb_arena_new(&l->perm, entry, x->all.n + n_made + 4);
    if (!l->weights.list || !x->entry)
        return oom(x->err);
    for (u64 i = 0; i < x->all.n; i++) {
        if (!is_wanted(&x->all.tensor[i]))
            continue;
        u64 at = l->weights.n++;
        LB_TRY(add_tensor(x, &x->all.tensor[i], &l->weights.list[at], &x->entry[at]));
    }
    return x->s->format == LB_FORMAT_GGUF ? add_stored_factors(x) : add_made(x, made, n_made);
}

/* ---- what is computed ---- */

static lb_status run_plan(loading *x, int fd) {
    lb_plan_limits limits = {.memory_bytes = lb_run_base_bytes() + x->o->memory_bytes,
                             .threads = x->o->threads};
    lb_run_options o = {.kernels = x->o->kernels,
                        .temp_dir = x->o->temp_dir,
                        .stop = x->o->stop,
                        .progress = x->o->progress,
                        .user = x->o->user,
                        .raw_fd = &fd};
    LB_TRY(lb_plan_close(x->plan, &limits, x->err));
    LB_TRY(lb_os_truncate(fd, "temporary file", x->off, x->err));
    LB_TRY(lb_run(x->plan, &o, NULL, x->err));
    return LB_OK;
}

static lb_status make_all(loading *x) {
    int fd = -1;
    if (!x->any_made)
        return LB_OK;
    if (x->o->announce)
        x->o->announce(x->o->user, x->off);
    LB_TRY(lb_os_open_temp(x->o->temp_dir, &fd, x->err));
    lb_status st = run_plan(x, fd);
    if (st == LB_OK)
        return lb_mapped_open(&x->l->made, fd, "a temporary file", x->off, x->err);
    lb_os_close(&fd);
    return st;
}

/* Points to what is mapped now. */
static lb_status finish(loading *x) {
    for (u64 i = 0; i < x->l->weights.n; i++) {
        lb_mweight *w = &x->l->weights.list[i];
        entry *e = &x->entry[i];
        if (e->made_off == UINT64_MAX) {
            w->mats = e->mats;
            w->n_mats = e->n_mats;
            continue;
        }
        const u8 *at = x->l->made.base + e->made_off;
        if (lb_mweight_is_values(w->name, &w->shape)) {
            w->values = (const float *)(const void *)at;
            continue;
        }
        lb_mat *m = lb_arena_new(&x->l->perm, lb_mat, 1);
        if (!m)
            return oom(x->err);
        *m = (lb_mat){.kind = LB_ENC_PLAIN,
                      .dtype = e->dtype,
                      .scale_dtype = LB_F32,
                      .times = 1,
                      .n_rows = w->n_rows,
                      .n_cols = w->n_cols,
                      .codes = at};
        if (!lb_dtype_bytes(e->dtype, w->n_cols, &m->row_bytes))
            return lb_fail(x->err, LB_E_LIMIT, "tensor '%.*s' is too large", LB_FMT(w->name));
        e->mats = m;
        e->n_mats = 1;
        LB_TRY(unstack(x, w, e));
        w->mats = e->mats;
        w->n_mats = e->n_mats;
    }
    return lb_mweights_index(&x->l->weights, x->err);
}

/* Where matrices lie. */
static lb_status list_files(loading *x) {
    lb_loaded *l = x->l;
    u32 n = 0;
    l->files = lb_arena_new(&l->perm, const lb_mapped *, l->maps.n + 1);
    if (!l->files)
        return oom(x->err);
    for (u64 i = 0; i < l->maps.n; i++)
        l->files[n++] = &l->maps.list[i].map;
    if (l->made.base)
        l->files[n++] = &l->made;
    l->weights.files = l->files;
    l->weights.n_files = n;
    return LB_OK;
}

static lb_status load(loading *x) {
    lb_loaded *l = x->l;
    LB_TRY(lb_plan_new(&x->plan, &x->s, 1, x->err));
    LB_TRY(lb_computed_bind(x->plan, 0, x->err));
    LB_TRY(lb_ctensors_build(x->plan, 0, &x->canon, x->err));
    if (!x->canon.arch) {
        *x->err = x->canon.arch_err;
        return x->canon.arch_err.code;
    }
    if (!lb_arch_graph_of(x->canon.arch)->runs)
        return lb_fail(x->err, LB_E_UNSUPPORTED, "models of the architecture '%s' cannot be run",
                       lb_arch_name(x->canon.arch));
    l->arch = lb_arch_name(x->canon.arch);
    LB_TRY(read_meta(x));
    x->upright = heads_turn_whole(x);
    LB_TRY(list_tensors(x));
    LB_TRY(make_all(x));
    LB_TRY(finish(x));
    LB_TRY(list_files(x));
    return lb_model_new(&l->model,
                        &(lb_model_in){.arch = x->canon.arch,
                                       .meta = &l->meta,
                                       .weights = &l->weights,
                                       .kernels = x->o->kernels},
                        x->err);
}

lb_status lb_load(lb_loaded **out, const lb_source *s, const lb_load_opts *o, lb_err *err) {
    lb_err here = {0};
    *out = NULL;
    lb_loaded *l = lb_alloc_zero(1, sizeof *l);
    if (!l)
        return oom(err);
    loading x = {.l = l, .s = s, .o = o, .err = &here};
    lb_status st = load(&x);
    lb_assembly_deinit(&x.all);
    lb_ctensors_deinit(&x.canon);
    lb_plan_free(&x.plan);
    if (st == LB_OK) {
        *out = l;
        return LB_OK;
    }
    if (err)
        *err = here;
    lb_err_context(err, "%s", s->path);
    lb_loaded_free(&l);
    return st;
}

void lb_loaded_free(lb_loaded **lp) {
    lb_loaded *l = *lp;
    if (!l)
        return;
    lb_model_free(&l->model);
    lb_names_deinit(&l->weights.by_name);
    lb_meta_deinit(&l->meta);
    lb_mapped_close(&l->made);
    lb_maps_deinit(&l->maps);
    lb_arena_deinit(&l->perm);
    lb_free(l);
    *lp = NULL;
}

const lb_model *lb_loaded_model(const lb_loaded *l) {
    return l->model;
}

const char *lb_loaded_arch(const lb_loaded *l) {
    return l->arch;
}

const lb_gguf_meta *lb_loaded_meta(const lb_loaded *l) {
    return &l->meta;
}

const lb_mweights *lb_loaded_weights(const lb_loaded *l) {
    return &l->weights;
}

u64 lb_loaded_made_bytes(const lb_loaded *l) {
    return l->made.size_bytes;
}

u64 lb_loaded_mapped_bytes(const lb_loaded *l) {
    u64 n = 0;
    for (u64 i = 0; i < l->maps.n; i++)
        n += l->maps.list[i].map.size_bytes;
    return n;
}
