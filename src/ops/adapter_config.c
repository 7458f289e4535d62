/* SPDX-License-Identifier: Apache-2.0 */
/* adapter_config.c: what an adapter's config says: its kind, scales, which parameters and rows its
 * tensors are of.
 *
 * Patterns of PEFT are Python's regular expressions, which must match a module's name to its end,
 * from its beginning or behind a dot (peft, utils/other.py: get_pattern_key); the first that does
 * counts. */
#include "ops/adapter_internal.h"
#include "text/regex.h"
#include <math.h>

#define CONFIG "adapter_config.json"

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for " CONFIG);
}

static bool is_set(const lb_json *v) {
    bool truth;
    return v && v->type != LB_JNULL && !(lb_json_as_bool(v, &truth) && !truth) &&
           !((v->type == LB_JARRAY || v->type == LB_JOBJECT) && v->n == 0);
}

static bool flag(const lb_adapter *a, const char *key) {
    bool truth = false;
    return lb_json_as_bool(lb_json_get(a->config, key), &truth) && truth;
}

/* ---- kinds ---- */

/* Options that make something else of A and B than scale * B A. (velora_config is about training
 * alone.) */
static lb_status check_variants(const lb_adapter *a, lb_err *err) {
    static const char *const keys[] = {
        "layer_replication", "alora_invocation_tokens", "use_qalora", "use_bdlora", "arrow_config",
        "kasa_config",       "monteclora_config"};
    for (size_t i = 0; i < LB_LEN(keys); i++)
        if (is_set(lb_json_get(a->config, keys[i])))
            return lb_fail(err, LB_E_UNSUPPORTED,
                           CONFIG ": an adapter with '%s' is not supported: it is no plain LoRA",
                           keys[i]);
    return LB_OK;
}

/* Ways to begin that change the base model: it would have to be changed again. Those that save_
 * pretrained has made plain say true. */
static lb_status check_init(const lb_adapter *a, lb_err *err) {
    static const char *const plain[] = {"gaussian", "eva", "orthogonal", "mica"};
    lb_str init;
    if (!lb_json_as_str(lb_json_get(a->config, "init_lora_weights"), &init))
        return LB_OK;
    for (size_t i = 0; i < LB_LEN(plain); i++)
        if (lb_str_eq_c(init, plain[i]))
            return LB_OK;
    return lb_fail(err, LB_E_UNSUPPORTED,
                   CONFIG ": init_lora_weights '%.*s' begins by changing the base model's weights, "
                          "to which the adapter belongs: save it as a plain LoRA "
                          "(path_initial_model_for_weight_conversion)",
                   LB_FMT(init));
}

static lb_status check_peft(lb_adapter *a, lb_err *err) {
    lb_str type;
    if (!lb_json_as_str(lb_json_get(a->config, "peft_type"), &type))
        return lb_fail(err, LB_E_FORMAT, CONFIG ": 'peft_type' is missing");
    if (!lb_str_eq_c(type, "LORA"))
        return lb_fail(err, LB_E_UNSUPPORTED,
                       CONFIG ": peft_type is %.*s, not LORA: it is not supported", LB_FMT(type));
    LB_TRY(check_variants(a, err));
    LB_TRY(check_init(a, err));
    a->dora = flag(a, "use_dora");
    a->ties = flag(a, "ensure_weight_tying");
    return LB_OK;
}

static lb_status check_mlx(lb_adapter *a, lb_err *err) {
    lb_str type = LB_STR("lora");
    (void)lb_json_as_str(lb_json_get(a->config, "fine_tune_type"), &type);
    a->dora = lb_str_eq_c(type, "dora");
    a->full = lb_str_eq_c(type, "full");
    a->ties = true; /* the embedding is applied as the output matrix, too */
    if (!a->dora && !a->full && !lb_str_eq_c(type, "lora"))
        return lb_fail(err, LB_E_UNSUPPORTED, CONFIG ": fine_tune_type '%.*s' is not supported",
                       LB_FMT(type));
    return LB_OK;
}

static lb_status check_gguf(const lb_adapter *a, lb_err *err) {
    const lb_gguf_kv *kv = lb_meta_find(a->source->gguf, "adapter.type");
    lb_str type;
    if (kv && lb_kv_as_str(kv, &type) && !lb_str_eq_c(type, "lora"))
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "adapter.type is '%.*s', not lora: it is not supported", LB_FMT(type));
    if (lb_meta_find(a->source->gguf, "adapter.alora.invocation_tokens"))
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "an adapter with adapter.alora.invocation_tokens is not supported: it is no "
                       "plain LoRA");
    return LB_OK;
}

lb_status lb_adapter_read_config(lb_adapter *a, lb_err *err) {
    const lb_side_file *f = lb_source_side(a->source, LB_STR(CONFIG));
    if (a->form == LB_ADAPTER_GGUF)
        return check_gguf(a, err);
    if (!f && a->form == LB_ADAPTER_NONE)
        return lb_fail(err, LB_E_FORMAT,
                       "neither an adapter's folder (" CONFIG
                       " is missing) nor an adapter in GGUF");
    if (!f)
        return lb_fail(err, LB_E_FORMAT, "an adapter without " CONFIG ": its scale is not known");
    LB_TRY(lb_side_read(f, 16 * LB_MIB, a->perm, &a->config_text, err));
    LB_TRY(lb_json_parse(a->config_text, CONFIG, a->perm, &a->config, err));
    if (a->form == LB_ADAPTER_NONE) /* whole tensors alone, or another kind's */
        a->form = lb_json_get(a->config, "fine_tune_type") ? LB_ADAPTER_MLX : LB_ADAPTER_PEFT;
    return a->form == LB_ADAPTER_PEFT ? check_peft(a, err) : check_mlx(a, err);
}

/* ---- scales ---- */

static lb_status matches(lb_str pattern, lb_str name, bool *out, lb_err *err) {
    lb_arena scratch = {0};
    lb_regex *re = NULL;
    lb_regex_iter it = {0};
    size_t from = 0, to = 0;
    lb_str whole = lb_arena_printf(&scratch, "\\A(?:.*\\.)?(?:%.*s)\\z", LB_FMT(pattern));
    lb_status st = whole.ptr ? lb_regex_new(&re, whole, false, err) : oom(err);
    *out = false;
    if (st == LB_OK)
        st = lb_regex_begin(&it, re, name, err);
    if (st == LB_OK) {
        st = lb_regex_next(&it, &from, &to, out, err);
        lb_regex_end(&it);
    }
    lb_regex_free(&re);
    lb_arena_deinit(&scratch);
    return st;
}

/* The value of the first pattern that the module's name matches; NULL: none. */
static lb_status by_pattern(const lb_adapter *a, const char *key, lb_str name, const lb_json **out,
                            lb_err *err) {
    const lb_json *patterns = lb_json_get(a->config, key);
    *out = NULL;
    for (const lb_json *v = patterns ? patterns->first : NULL; v; v = v->next) {
        bool hit = lb_str_eq(v->key, name);
        lb_status st = hit ? LB_OK : matches(v->key, name, &hit, err);
        if (st != LB_OK) {
            lb_err_context(err, CONFIG ": %s '%.*s'", key, LB_FMT(v->key));
            return st;
        }
        if (hit) {
            *out = v;
            return LB_OK;
        }
    }
    return LB_OK;
}

/* Python's name of what A and B are of. */
static lb_status full_name(const lb_adapter *a, const lb_adapter_part *p, lb_str *out,
                           lb_err *err) {
    *out = p->module;
    if (p->parameter.len)
        *out = lb_arena_printf(a->perm, "%.*s.%.*s", LB_FMT(p->module), LB_FMT(p->parameter));
    return out->ptr ? LB_OK : oom(err);
}

/* Of a parameter all matrices' ranks stand in one: the config says what one has. */
static lb_status set_rank(const lb_adapter *a, lb_adapter_part *p, lb_str name, lb_err *err) {
    const lb_json *own, *r;
    u64 rank = 0;
    LB_TRY(by_pattern(a, "rank_pattern", name, &own, err));
    r = own ? own : lb_json_get(a->config, "r");
    if (!r && !p->parameter.len)
        return LB_OK; /* as the matrices have it */
    if (!lb_json_as_u64(r, &rank) || rank == 0 || p->rank % rank ||
        (!p->parameter.len && p->rank != rank))
        return lb_fail(err, LB_E_FORMAT, "'%.*s' has rank %llu, " CONFIG " says %llu", LB_FMT(name),
                       (unsigned long long)p->rank, (unsigned long long)rank);
    p->n_stack = p->rank / rank;
    p->rank = rank;
    return LB_OK;
}

static lb_status peft_scale(const lb_adapter *a, lb_adapter_part *p, lb_err *err) {
    const lb_json *own;
    lb_str name;
    double alpha = 0;
    LB_TRY(full_name(a, p, &name, err));
    LB_TRY(set_rank(a, p, name, err));
    LB_TRY(by_pattern(a, "alpha_pattern", name, &own, err));
    if (!lb_json_as_f64(own ? own : lb_json_get(a->config, "lora_alpha"), &alpha) ||
        !isfinite(alpha))
        return lb_fail(err, LB_E_FORMAT, CONFIG ": '%s' is missing or not a number",
                       own ? "alpha_pattern" : "lora_alpha");
    p->scale = flag(a, "use_rslora") ? alpha / sqrt((double)p->rank) : alpha / (double)p->rank;
    if (a->dora != (p->magnitude != LB_ADAPTER_ABSENT) && p->n_stack == 1 && !p->parameter.len)
        return lb_fail(err, LB_E_FORMAT,
                       a->dora ? "'%.*s' has no magnitude, " CONFIG " says it is a DoRA"
                               : "'%.*s' has a magnitude, " CONFIG
                                 " does not say that it is a DoRA",
                       LB_FMT(name));
    return LB_OK;
}

static lb_status mlx_scale(const lb_adapter *a, lb_adapter_part *p, lb_err *err) {
    if (!lb_json_as_f64(lb_json_path(a->config, "lora_parameters.scale"), &p->scale) ||
        !isfinite(p->scale))
        return lb_fail(
            err, LB_E_FORMAT, CONFIG ": 'lora_parameters.scale' is missing%s",
            lb_json_path(a->config, "lora_parameters.alpha") ? " (mlx-lm knows no 'alpha')" : "");
    if (a->dora && p->magnitude == LB_ADAPTER_ABSENT)
        return lb_fail(err, LB_E_FORMAT, "'%.*s' has no magnitude, " CONFIG " says it is a DoRA",
                       LB_FMT(p->module));
    return LB_OK;
}

lb_status lb_adapter_set_scale(lb_adapter *a, lb_adapter_part *p, lb_err *err) {
    double alpha;
    const lb_gguf_kv *kv;
    if (a->form == LB_ADAPTER_PEFT)
        return peft_scale(a, p, err);
    if (a->form == LB_ADAPTER_MLX)
        return mlx_scale(a, p, err);
    kv = lb_meta_find(a->source->gguf, "adapter.lora.alpha");
    if (!kv || !lb_kv_as_f64(kv, &alpha) || !isfinite(alpha))
        return lb_fail(err, LB_E_FORMAT, "GGUF metadata: 'adapter.lora.alpha' is missing");
    p->scale = alpha == 0 ? 1 /* as llama-adapter.h has it */ : alpha / (double)p->rank;
    return LB_OK;
}

/* ---- parameters ---- */

/* In the order in which transformers' modules of experts have them. */
static const char *const parameters[] = {
    "gate_up_proj", "gate_proj", "up_proj",       "w1",    "w3", "input_linear",
    "down_proj",    "w2",        "output_linear", "weight"};

/* Whether a target "mlp.experts.gate_up_proj" is that parameter of the module. */
static bool is_target(lb_str target, lb_str module, const char *parameter) {
    size_t dot = target.len;
    while (dot > 0 && target.ptr[dot - 1] != '.')
        dot--;
    if (!lb_str_eq_c(lb_str_sub(target, dot, target.len), parameter))
        return false;
    lb_str of = lb_str_sub(target, 0, dot ? dot - 1 : 0);
    return of.len == 0 || lb_str_eq(of, module) ||
           (lb_str_ends(module, of) && module.ptr[module.len - of.len - 1] == '.');
}

static bool is_targeted(const lb_adapter *a, lb_str module, const char *parameter) {
    const lb_json *list = lb_json_get(a->config, "target_parameters");
    for (const lb_json *v = list ? list->first : NULL; v; v = v->next)
        if (v->type == LB_JSTRING && is_target(v->text, module, parameter))
            return true;
    return false;
}

/* The first parameter is wrapped first: it lies the deepest. */
static lb_status name_module(const lb_adapter *a, lb_adapter_part *first, u64 n, lb_err *err) {
    const char *of[LB_LEN(parameters)];
    u64 k = 0;
    for (size_t i = 0; i < LB_LEN(parameters); i++)
        if (is_targeted(a, first->module, parameters[i]))
            of[k++] = parameters[i];
    if (n == 1 && k == 1 && lb_str_eq_c(lb_str_c(of[0]), "weight"))
        return LB_OK;
    if (k != n)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "'%.*s': " CONFIG
                       " names %llu parameters of it in target_parameters that are "
                       "known, and there are matrices of %llu",
                       LB_FMT(first->module), (unsigned long long)k, (unsigned long long)n);
    for (u64 i = 0; i < n; i++) {
        if (first[i].depth != i)
            return lb_fail(err, LB_E_FORMAT,
                           "'%.*s': matrices of one of its parameters are missing",
                           LB_FMT(first->module));
        first[i].parameter = lb_str_c(of[k - 1 - i]);
    }
    return LB_OK;
}

lb_status lb_adapter_name_parameters(lb_adapter *a, lb_err *err) {
    u64 n;
    for (u64 i = 0; i < a->n && a->form == LB_ADAPTER_PEFT; i += n) {
        const lb_adapter_part *p = &a->parts[i];
        for (n = 1; i + n < a->n && lb_str_eq(a->parts[i + n].module, p->module);)
            n++;
        if (n > 1 || p->depth || lb_str_ends(p->module, LB_STR(".experts")))
            LB_TRY(name_module(a, &a->parts[i], n, err));
    }
    return LB_OK;
}

bool lb_adapter_saves(const lb_adapter *a, lb_str module) {
    const lb_json *list = lb_json_get(a->config, "modules_to_save");
    for (const lb_json *v = list ? list->first : NULL; v; v = v->next)
        if (v->type == LB_JSTRING && (lb_str_eq(v->text, module) ||
                                      (lb_str_ends(module, v->text) && module.len > v->text.len &&
                                       module.ptr[module.len - v->text.len - 1] == '.')))
            return true;
    return false;
}

/* ---- rows of tokens ---- */

/* A list, of the embedding, or lists by the modules' names. */
static const lb_json *rows_of(const lb_adapter *a, lb_str module) {
    const lb_json *v = lb_json_get(a->config, "trainable_token_indices");
    if (!v || v->type != LB_JOBJECT)
        return v;
    for (v = v->first; v; v = v->next)
        if (lb_str_eq(v->key, module) || (lb_str_ends(module, v->key) && module.len > v->key.len &&
                                          module.ptr[module.len - v->key.len - 1] == '.'))
            return v;
    return NULL;
}

lb_status lb_adapter_token_rows(lb_adapter *a, lb_adapter_value *v, lb_err *err) {
    const lb_json *list = rows_of(a, v->name);
    const lb_weight *w = &a->source->weights[v->weight];
    lb_str module = v->name;
    if (!list || list->type != LB_JARRAY || w->shape.rank != 2 || list->n != w->shape.dim[0])
        return lb_fail(err, LB_E_FORMAT,
                       "tensor '%.*s': " CONFIG
                       "'s trainable_token_indices lists no token for each "
                       "of its rows",
                       LB_FMT(w->name));
    u64 *rows = lb_arena_new(a->perm, u64, list->n + 1);
    v->name = lb_arena_printf(a->perm, "%.*s.weight", LB_FMT(module));
    if (!rows || !v->name.ptr)
        return oom(err);
    for (const lb_json *x = list->first; x; x = x->next)
        if (!lb_json_as_u64(x, &rows[v->n_rows++]))
            return lb_fail(err, LB_E_FORMAT, CONFIG ": trainable_token_indices: not an index");
    v->rows = rows;
    return LB_OK;
}
