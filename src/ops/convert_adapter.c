/* SPDX-License-Identifier: Apache-2.0 */
/* convert_adapter.c: low-rank adapters (LoRA) between their three forms (adapter.h). Names and rows
 * of GGUF are those of the base model: its config is needed on the way to and from. */
#include "base/os.h"
#include "ops/adapter_pairs.h"
#include "ops/convert_internal.h"
#include "ops/open.h"
#include <math.h>

#define KEY_CONFIG "lbrx.adapter.config" /* PEFT's adapter_config.json, for the way back */
#define PEFT_PREFIX "base_model.model."

typedef struct adapter {
    lb_conv *c;
    lb_adapter read;
    lb_adapter_form from, to;
    lb_adapter_pairs x;
    const lb_adapter_pair *pairs; /* [n] of x */
    u64 n;
    const lb_json *config; /* adapter_config.json; NULL: none */
    lb_str config_text;
    const lb_arch *arch; /* of the base model; NULL: not known */
    lb_hparams hp;
} adapter;

/* ---- which form ---- */

static lb_adapter_form form_to(lb_format f) {
    return f == LB_FORMAT_GGUF  ? LB_ADAPTER_GGUF
           : f == LB_FORMAT_MLX ? LB_ADAPTER_MLX
           : f == LB_FORMAT_HF  ? LB_ADAPTER_PEFT
                                : LB_ADAPTER_NONE;
}

bool lb_conv_is_adapter(const lb_conv *c) {
    lb_adapter_form from = lb_adapter_form_of(c->src);
    if (from == LB_ADAPTER_NONE) /* of another kind: it has one form only */
        return !c->src->config.len && c->model.format != c->src->format &&
               lb_source_side(c->src, LB_STR("adapter_config.json"));
    return from != form_to(c->model.format);
}

/* ---- the base model ---- */

/* Family and sizes of what stands at a path. */
static lb_status read_base(adapter *a, const char *path, lb_err *err) {
    lb_source *s = NULL;
    lb_arena scratch = {.max_bytes = 256 * LB_MIB};
    lb_json *config = NULL;
    lb_status st = lb_open(&s, path, err);
    if (st != LB_OK) {
        lb_err_context(err, "the adapter's base model");
        return st;
    }
    if (s->format == LB_FORMAT_GGUF) {
        st = lb_arch_from_gguf(s->gguf, lb_source_tensor(s, LB_STR("output.weight")) != NULL,
                               &a->arch, &a->hp, err);
    } else if (s->config.len == 0) {
        st = lb_fail(err, LB_E_FORMAT, "no config.json");
    } else {
        st = lb_json_parse(s->config, "config.json", &scratch, &config, err);
        if (st == LB_OK)
            st = lb_arch_from_config(config, &a->arch, &a->hp, err);
    }
    if (st != LB_OK)
        lb_err_context(err, "%s (the adapter's base model)", path);
    lb_arena_deinit(&scratch);
    lb_source_close(&s);
    return st;
}

/* What the adapter names, where that is on this machine. LB_E_NOT_FOUND: it is not. */
static lb_status read_named(adapter *a, lb_str named, lb_err *err) {
    const char *path = lb_arena_str(a->c->perm, named).ptr;
    lb_str hub = lb_arena_printf(a->c->perm, "hf://%.*s", LB_FMT(named));
    if (!hub.ptr || !path)
        return lb_fail(err, LB_E_NOMEM, "out of memory for names");
    if (named.len && lb_os_exists(path))
        return read_base(a, path, err);
    lb_status st = named.len ? read_base(a, hub.ptr, err) : LB_E_NOT_FOUND;
    return st == LB_E_USAGE ? LB_E_NOT_FOUND : st; /* no name of the hub */
}

/* --base, else what the adapter names. Only GGUF cannot do without. */
static lb_status find_base(adapter *a, lb_err *err) {
    lb_str named = {0};
    lb_err why = {0};
    bool needed = a->from == LB_ADAPTER_GGUF || a->to == LB_ADAPTER_GGUF;
    if (a->c->o->base)
        return read_base(a, a->c->o->base, err);
    if (!lb_json_as_str(lb_json_get(a->config, "base_model_name_or_path"), &named))
        (void)lb_json_as_str(lb_json_get(a->config, "model"), &named);
    lb_status st = read_named(a, named, &why);
    if (st == LB_E_NOMEM || (needed && st != LB_OK && st != LB_E_NOT_FOUND)) {
        *err = why;
        return st;
    }
    if (st == LB_OK)
        return LB_OK;
    a->arch = NULL;
    if (needed)
        return lb_fail(
            err, LB_E_USAGE,
            "an adapter's names and rows in GGUF are those of its base model%s%.*s%s: give "
            "it with --base MODEL (its config is enough)",
            named.len ? " '" : "", LB_FMT(named), named.len ? "', which is not here" : "");
    if (st != LB_E_NOT_FOUND)
        lb_conv_remark(a->c, "names are taken as they are: the base model cannot be read: %s",
                       why.msg);
    return LB_OK;
}

/* ---- reading ---- */

/* What has no place in the other forms. */
static lb_status check_part(const adapter *a, const lb_adapter_part *p, lb_err *err) {
    if (p->magnitude != LB_ADAPTER_ABSENT &&
        (p->embedding || a->to == LB_ADAPTER_GGUF || a->from == LB_ADAPTER_GGUF))
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "'%.*s': the adapter is a DoRA%s, for which %s has no place: fuse it",
                       LB_FMT(p->module), p->embedding ? " of an embedding" : "",
                       lb_adapter_form_name(a->to));
    if (p->bias != LB_ADAPTER_ABSENT)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "'%.*s': B has a bias, for which %s has no place: it would be lost",
                       LB_FMT(p->module), lb_adapter_form_name(a->to));
    return LB_OK;
}

static lb_status check_values(const adapter *a, lb_err *err) {
    u64 n_base = 0;
    for (u64 i = 0; i < a->read.n_values; i++) {
        const lb_adapter_value *v = &a->read.values[i];
        size_t at;
        bool own = v->is_idle ||
                   lb_str_find(a->c->src->weights[v->weight].name, LB_STR(".base_layer."), &at);
        if (!own || !v->is_base)
            return lb_fail(err, LB_E_UNSUPPORTED,
                           "tensor '%.*s' is not a matrix of a LoRA (a whole weight, of "
                           "modules_to_save?): it would be lost: fuse it",
                           LB_FMT(a->c->src->weights[v->weight].name));
        n_base++; /* which some tools save beside */
    }
    if (n_base)
        lb_conv_remark(a->c,
                       "%llu tensors NAME.base_layer.weight left out: they are the base model's "
                       "(its embeddings, if tokens were added)",
                       (unsigned long long)n_base);
    return LB_OK;
}

static lb_status read_adapter(adapter *a, lb_err *err) {
    LB_TRY(lb_adapter_read(&a->read, a->c->src, a->c->perm, err));
    LB_TRY(check_values(a, err));
    a->config = a->read.config;
    a->config_text = a->read.config_text;
    for (u64 i = 0; i < a->read.n; i++)
        LB_TRY(check_part(a, &a->read.parts[i], err));
    return LB_OK;
}

static lb_status make_pairs(adapter *a, lb_err *err) {
    a->x = (lb_adapter_pairs){.adapter = &a->read, .to = a->to, .arch = a->arch, .hp = &a->hp};
    LB_TRY(lb_adapter_pairs_make(&a->x, a->c->perm, err));
    a->pairs = a->x.pairs;
    a->n = a->x.n;
    return LB_OK;
}

/* ---- writing ---- */

/* A or B (0, 1) as the target has it. */
static lb_status push_matrix(adapter *a, const lb_adapter_pair *p, u32 which, lb_err *err) {
    static const char *const ends[][2] = {[LB_ADAPTER_PEFT] = {".lora_A.weight", ".lora_B.weight"},
                                          [LB_ADAPTER_MLX] = {".lora_a", ".lora_b"},
                                          [LB_ADAPTER_GGUF] = {".lora_a", ".lora_b"}};
    lb_conv *c = a->c;
    const lb_adapter_part *first = a->x.units[p->first].part;
    const lb_weight *w = &c->src->weights[which ? first->b : first->a];
    lb_dtype stored = c->src->tensors[w->part[0]].dtype, dtype = c->o->cast ? c->o->dtype : stored;
    const char *end = a->to == LB_ADAPTER_PEFT && p->embedding
                          ? (which ? ".lora_embedding_B" : ".lora_embedding_A")
                          : ends[a->to][which];
    lb_shape *shape = lb_arena_new(c->perm, lb_shape, 1);
    lb_node_id *roots = lb_arena_new(c->perm, lb_node_id, p->n_stack);
    lb_str name = lb_arena_printf(c->perm, "%s%.*s%s", a->to == LB_ADAPTER_PEFT ? PEFT_PREFIX : "",
                                  LB_FMT(lb_adapter_pair_name(&a->x, p)), end);
    if (!shape || !roots || !name.ptr)
        return lb_fail(err, LB_E_NOMEM, "out of memory for names");
    if (!lb_ctensor_is_float(dtype))
        dtype = LB_F32;
    LB_TRY(lb_adapter_pair_nodes(&a->x, p, which, c->plan, roots, shape, err));
    for (u64 i = 0; i < p->n_stack; i++)
        roots[i] = lb_expr_encode(&c->plan->graph, roots[i], dtype);
    LB_TRY(lb_graph_status(&c->plan->graph, err));
    return lb_conv_push(c,
                        &(lb_out_tensor){.name = name,
                                         .dtype = dtype,
                                         .shape = shape,
                                         .segments = roots,
                                         .n_segments = (u32)p->n_stack},
                        err);
}

/* A DoRA's lengths of rows. */
static lb_status push_magnitude(adapter *a, const lb_adapter_pair *p, lb_err *err) {
    lb_conv *c = a->c;
    lb_graph *g = &c->plan->graph;
    const lb_adapter_part *first = a->x.units[p->first].part;
    if (first->magnitude == LB_ADAPTER_ABSENT)
        return LB_OK;
    const lb_weight *w = &c->src->weights[first->magnitude];
    lb_dtype stored = c->src->tensors[w->part[0]].dtype, dtype = c->o->cast ? c->o->dtype : stored;
    lb_shape *shape = lb_arena_new(c->perm, lb_shape, 1);
    lb_str name = lb_arena_printf(c->perm, "%s%.*s%s", a->to == LB_ADAPTER_PEFT ? PEFT_PREFIX : "",
                                  LB_FMT(lb_adapter_pair_name(&a->x, p)),
                                  a->to == LB_ADAPTER_PEFT ? ".lora_magnitude_vector" : ".m");
    if (!shape || !name.ptr)
        return lb_fail(err, LB_E_NOMEM, "out of memory for names");
    if (p->n_out != first->n_out)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "'%.*s': the adapter is a DoRA of a matrix that is split in the target: "
                       "fuse it",
                       LB_FMT(first->module));
    *shape = (lb_shape){.rank = 1, .dim = {p->n_out}};
    lb_node_id x =
        lb_expr_encode(g, lb_expr_decode(g, lb_expr_read_as(g, 0, w, 1, p->n_out)), dtype);
    LB_TRY(lb_graph_status(g, err));
    return lb_conv_push(
        c, &(lb_out_tensor){.name = name, .dtype = dtype, .shape = shape, .node = x}, err);
}

static lb_json *number(lb_arena *perm, double v) {
    return v == floor(v) && fabs(v) < 1e15 ? lb_json_new_i64(perm, (i64)v)
                                           : lb_json_new_f64(perm, v);
}

/* The one value that all pairs have, or refused: the target has one for all. */
static lb_status one_for_all(const adapter *a, bool alpha, double *out, lb_err *err) {
    for (u64 i = 0; i < a->n; i++) {
        const lb_adapter_pair *p = &a->pairs[i];
        double v = alpha ? p->scale * (double)p->rank : p->scale;
        if (i == 0)
            *out = v;
        else if (fabs(v - *out) > 1e-9 * fabs(*out))
            return lb_fail(err, LB_E_UNSUPPORTED,
                           "'%.*s' has another %s than '%.*s' (%g, %g): the target has one for all",
                           LB_FMT(p->module), alpha ? "alpha" : "scale", LB_FMT(a->pairs[0].module),
                           v, *out);
    }
    return LB_OK;
}

/* What stands behind "layers.N." in a module's name; the whole name outside of layers. */
static lb_str in_layer(lb_str module) {
    size_t at;
    if (!lb_str_find(module, LB_STR("layers."), &at))
        return module;
    lb_str rest = lb_str_sub(module, at + 7, module.len);
    return lb_str_find(rest, LB_STR("."), &at) ? lb_str_sub(rest, at + 1, rest.len) : module;
}

static bool listed(const lb_json *list, lb_str s) {
    for (const lb_json *v = list->first; v; v = v->next)
        if (lb_str_eq(v->text, s))
            return true;
    return false;
}

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for adapter_config.json");
}

static lb_status mlx_config(adapter *a, lb_json **out, lb_err *err) {
    lb_arena *perm = a->c->perm;
    lb_json *c = lb_json_new_object(perm), *lora = lb_json_new_object(perm),
            *keys = lb_json_new_array(perm);
    double scale = 1, dropout = 0;
    LB_TRY(one_for_all(a, false, &scale, err));
    for (u64 i = 0; i < a->n; i++) {
        lb_str key = in_layer(a->pairs[i].mlx);
        if (a->pairs[i].rank != a->pairs[0].rank)
            return lb_fail(err, LB_E_UNSUPPORTED,
                           "'%.*s' has another rank than '%.*s': MLX has one for all",
                           LB_FMT(a->pairs[i].module), LB_FMT(a->pairs[0].module));
        if (keys && !listed(keys, key) && !lb_json_push(keys, lb_json_new_str(perm, key)))
            return no_memory(err);
    }
    (void)lb_json_as_f64(lb_json_get(a->config, "lora_dropout"), &dropout);
    bool ok = lb_json_set(perm, c, "fine_tune_type",
                          lb_json_new_str(perm, a->read.dora ? LB_STR("dora") : LB_STR("lora"))) &&
              /* as mlx-lm reads it: of all layers; those without matrices add nothing */
              lb_json_set(perm, c, "num_layers", lb_json_new_i64(perm, -1)) &&
              lb_json_set(perm, lora, "rank", lb_json_new_u64(perm, a->pairs[0].rank)) &&
              lb_json_set(perm, lora, "scale", lb_json_new_f64(perm, scale)) &&
              lb_json_set(perm, lora, "dropout", lb_json_new_f64(perm, dropout)) &&
              lb_json_set(perm, lora, "keys", keys) &&
              lb_json_set(perm, c, "lora_parameters", lora);
    *out = c;
    return ok ? LB_OK : no_memory(err);
}

/* Ranks and alphas that are not the first pair's, by module. */
static bool add_patterns(const adapter *a, lb_json *ranks, lb_json *alphas, double alpha) {
    lb_arena *perm = a->c->perm;
    for (u64 i = 0; i < a->n; i++) {
        const lb_adapter_pair *p = &a->pairs[i];
        double own = p->scale * (double)p->rank;
        lb_str key = lb_arena_str(perm, p->module);
        if (!key.ptr ||
            (p->rank != a->pairs[0].rank &&
             !lb_json_set(perm, ranks, key.ptr, lb_json_new_u64(perm, p->rank))) ||
            (fabs(own - alpha) > 1e-9 * fabs(alpha) &&
             !lb_json_set(perm, alphas, key.ptr, number(perm, own))))
            return false;
    }
    return true;
}

static lb_status peft_config(adapter *a, lb_json **out, lb_err *err) {
    lb_arena *perm = a->c->perm;
    lb_json *c = lb_json_new_object(perm), *targets = lb_json_new_array(perm),
            *ranks = lb_json_new_object(perm), *alphas = lb_json_new_object(perm);
    double alpha = a->n ? a->pairs[0].scale * (double)a->pairs[0].rank : 1, dropout = 0;
    lb_str base = LB_STR("");
    for (u64 i = 0; i < a->n; i++) /* whole names: a part of the layers may have none */
        if (!targets || !lb_json_push(targets, lb_json_new_str(perm, a->pairs[i].module)))
            return no_memory(err);
    (void)lb_json_as_str(lb_json_get(a->config, "model"), &base);
    (void)lb_json_as_f64(lb_json_path(a->config, "lora_parameters.dropout"), &dropout);
    bool ok = lb_json_set(perm, c, "alpha_pattern", alphas) &&
              lb_json_set(perm, c, "base_model_name_or_path", lb_json_new_str(perm, base)) &&
              lb_json_set(perm, c, "bias", lb_json_new_str(perm, LB_STR("none"))) &&
              lb_json_set(perm, c, "fan_in_fan_out", lb_json_new_bool(perm, false)) &&
              lb_json_set(perm, c, "inference_mode", lb_json_new_bool(perm, true)) &&
              lb_json_set(perm, c, "init_lora_weights", lb_json_new_bool(perm, true)) &&
              lb_json_set(perm, c, "lora_alpha", number(perm, alpha)) &&
              lb_json_set(perm, c, "lora_dropout", lb_json_new_f64(perm, dropout)) &&
              lb_json_set(perm, c, "modules_to_save", lb_json_new_null(perm)) &&
              lb_json_set(perm, c, "peft_type", lb_json_new_str(perm, LB_STR("LORA"))) &&
              lb_json_set(perm, c, "r", lb_json_new_u64(perm, a->n ? a->pairs[0].rank : 1)) &&
              add_patterns(a, ranks, alphas, alpha) &&
              lb_json_set(perm, c, "rank_pattern", ranks) &&
              lb_json_set(perm, c, "target_modules", targets) &&
              lb_json_set(perm, c, "task_type", lb_json_new_str(perm, LB_STR("CAUSAL_LM"))) &&
              lb_json_set(perm, c, "use_dora", lb_json_new_bool(perm, a->read.dora)) &&
              lb_json_set(perm, c, "use_rslora", lb_json_new_bool(perm, false));
    *out = c;
    return ok ? LB_OK : no_memory(err);
}

/* The text that a PEFT adapter had before lbrx made this one of it. */
static lb_str kept_config(const adapter *a) {
    lb_str text = LB_STR_NONE;
    if (a->from == LB_ADAPTER_GGUF) {
        const lb_gguf_kv *kv = lb_meta_find(a->c->src->gguf, KEY_CONFIG);
        if (!kv || !lb_kv_as_str(kv, &text))
            return LB_STR_NONE;
    } else {
        (void)lb_json_as_str(lb_json_get(a->config, KEY_CONFIG), &text);
    }
    return text;
}

static lb_status push_folder_texts(adapter *a, lb_err *err) {
    lb_conv *c = a->c;
    lb_json *config = NULL;
    lb_buf b = {0};
    lb_str kept = a->to == LB_ADAPTER_PEFT ? kept_config(a) : LB_STR_NONE;
    if (kept.len) {
        lb_buf_put_str(&b, kept);
    } else {
        LB_TRY(a->to == LB_ADAPTER_PEFT ? peft_config(a, &config, err)
                                        : mlx_config(a, &config, err));
        if (a->to == LB_ADAPTER_MLX && a->from == LB_ADAPTER_PEFT && !c->o->w.no_provenance &&
            !lb_json_set(c->perm, config, KEY_CONFIG, lb_json_new_str(c->perm, a->config_text)))
            return no_memory(err);
        lb_json_write(&b, config, (lb_json_style){.indent = 2, .ascii = true});
        lb_buf_put_c(&b, "\n");
    }
    c->model.stem = a->to == LB_ADAPTER_PEFT ? "adapter_model" : "adapters";
    const lb_side_file *readme = lb_source_side(c->src, LB_STR("README.md"));
    if (readme)
        LB_TRY(lb_conv_push_text(c, lb_conv_side_text(readme), err));
    return lb_conv_push_buf(c, "adapter_config.json", &b, err);
}

static lb_status push_meta(adapter *a, lb_err *err) {
    lb_conv *c = a->c;
    double alpha = 1;
    lb_arch_meta_in in = {.config = lb_json_new_object(c->perm),
                          .label = lb_os_base_name(c->src->label)};
    const lb_side_file *readme = lb_source_side(c->src, LB_STR("README.md"));
    if (!in.config)
        return no_memory(err);
    if (readme)
        LB_TRY(lb_side_read(readme, 16 * LB_MIB, c->perm, &in.readme, err));
    for (u64 i = 0; i < a->n; i++)
        in.n_params += a->pairs[i].n_in * a->pairs[i].n_out * a->pairs[i].n_stack;
    LB_TRY(one_for_all(a, true, &alpha, err));
    if ((float)alpha == 0 || !isfinite((float)alpha))
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "an alpha of %g has no form in GGUF (0 stands for a scale of 1)", alpha);
    LB_TRY(lb_arch_meta_adapter(a->arch, &in, (float)alpha, &c->meta, err));
    if (a->from == LB_ADAPTER_PEFT && !c->o->w.no_provenance)
        LB_TRY(lb_meta_set_str(&c->meta, KEY_CONFIG, a->config_text, err));
    c->model.meta = &c->meta;
    return lb_conv_edit_meta(c, err);
}

static lb_status convert_adapter(adapter *a, lb_err *err) {
    LB_TRY(read_adapter(a, err));
    LB_TRY(find_base(a, err));
    LB_TRY(make_pairs(a, err));
    for (u64 i = 0; i < a->n; i++) {
        for (u32 which = 0; which < 2; which++)
            LB_TRY(push_matrix(a, &a->pairs[i], which, err));
        LB_TRY(push_magnitude(a, &a->pairs[i], err));
    }
    return a->to == LB_ADAPTER_GGUF ? push_meta(a, err) : push_folder_texts(a, err);
}

lb_status lb_conv_adapter(lb_conv *c, lb_err *err) {
    adapter a = {.c = c, .from = lb_adapter_form_of(c->src), .to = form_to(c->model.format)};
    if (a.from == LB_ADAPTER_NONE)
        return lb_fail(
            err, LB_E_UNSUPPORTED,
            "an adapter (adapter_config.json) without matrices of LoRA: it has no other form");
    if (a.to == LB_ADAPTER_NONE)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "an adapter becomes hf (PEFT), mlx or gguf: see --to");
    lb_status st = convert_adapter(&a, err);
    lb_adapter_pairs_deinit(&a.x);
    return st;
}
