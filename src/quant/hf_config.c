/* SPDX-License-Identifier: Apache-2.0 */
/* hf_config.c: "quantization_config" as compressed-tensors and transformers write it. */
#include "quant/hf_scheme.h"
#include <stdio.h>

#define CT_VERSION "0.20.0" /* of compressed-tensors, whose layout it is */

/* Values of one object; the first that is NULL makes it fail. */
typedef struct maker {
    lb_arena *perm;
    bool ok;
} maker;

static void set(maker *m, lb_json *o, const char *key, lb_json *v) {
    m->ok = m->ok && o && v && lb_json_set(m->perm, o, key, v);
}

static lb_json *text(const maker *m, const char *s) {
    return lb_json_new_str(m->perm, lb_str_c(s));
}

static bool same_form(const lb_hf_form *a, const lb_hf_form *b) {
    return a->type == b->type && a->scope == b->scope && a->group == b->group && a->asym == b->asym;
}

static const char *format_of(const lb_hf_form *f) {
    return f->type == LB_HF_FP8     ? "float-quantized"
           : f->type == LB_HF_W4A16 ? "pack-quantized"
                                    : "int-quantized";
}

/* QuantizationArgs. */
static lb_json *args(maker *m, const lb_hf_form *f, const char *strategy, bool dynamic) {
    lb_json *o = lb_json_new_object(m->perm);
    bool group = f->scope == LB_SCOPE_GROUP && !dynamic;
    set(m, o, "dynamic", lb_json_new_bool(m->perm, dynamic));
    set(m, o, "group_size", group ? lb_json_new_u64(m->perm, f->group) : lb_json_new_null(m->perm));
    set(m, o, "num_bits", lb_json_new_u64(m->perm, f->type == LB_HF_W4A16 ? 4 : 8));
    set(m, o, "strategy", text(m, strategy));
    set(m, o, "symmetric", lb_json_new_bool(m->perm, !f->asym || dynamic));
    set(m, o, "type", text(m, f->type == LB_HF_FP8 ? "float" : "int"));
    return o;
}

/* QuantizationScheme. targets: of the modules' names, or of the class. */
static lb_json *scheme(maker *m, const lb_hf_form *f, lb_json *targets) {
    static const char *const strategies[] = {"group", "channel", "block", "tensor"};
    lb_json *o = lb_json_new_object(m->perm);
    set(m, o, "format", text(m, format_of(f)));
    set(m, o, "input_activations",
        f->type == LB_HF_W4A16 ? lb_json_new_null(m->perm) : args(m, f, "token", true));
    set(m, o, "output_activations", lb_json_new_null(m->perm));
    set(m, o, "targets", targets);
    set(m, o, "weights", args(m, f, strategies[f->scope], false));
    return o;
}

/* Modules of the class that stay as they are. */
static bool is_left(const lb_hf_choice *c) {
    return c->path.len && !c->stack && !c->quantized && c->why != LB_HF_WHY_NO_MODULE &&
           c->why != LB_HF_WHY_TURNED;
}

/* The head of a model whose embedding stands for it is a module, too. */
static lb_status add_head(const lb_hf_job *j, maker *m, lb_json *list, bool has_head) {
    const lb_str suffix = LB_STR(".weight");
    u32 n = 0;
    const lb_arch_tensor *rows = j->arch ? lb_arch_rows(j->arch, &n) : NULL;
    lb_str name = LB_STR("lm_head");
    for (u32 i = 0; i < n; i++) {
        lb_str s = lb_arch_row_name(&rows[i], LB_WORLD_HF);
        if (rows[i].role == LB_ROLE_OUTPUT && lb_str_ends(s, suffix) && !memchr(s.ptr, '{', s.len))
            name = lb_str_sub(s, 0, s.len - suffix.len);
    }
    if (!has_head)
        m->ok = m->ok && lb_json_push(list, lb_json_new_str(m->perm, name));
    return LB_OK;
}

/* The part of a tower's name that its class may have under another one: "visual" of
 * "visual.blocks.0.attn.qkv", "vision_tower" of "model.vision_tower.encoder...". */
static lb_str tower_of(lb_str path) {
    size_t n = 0;
    if (lb_str_starts(path, LB_STR("model.")))
        path = lb_str_sub(path, 6, path.len);
    return lb_str_find(path, LB_STR("."), &n) ? lb_str_sub(path, 0, n) : LB_STR_NONE;
}

static bool holds(const lb_json *list, lb_str s) {
    lb_str text;
    for (const lb_json *v = list->first; v; v = v->next)
        if (lb_json_as_str(v, &text) && lb_str_eq(text, s))
            return true;
    return false;
}

/* transformers names some towers otherwise than files do, and takes names as they are. */
static void add_towers(const lb_hf_job *j, const lb_hf_choice *c, maker *m, lb_json *list) {
    static const char *const own[] = {"layers", "language_model", "lm_head", "mtp", "h"};
    lb_json *seen = lb_json_new_array(m->perm);
    for (u64 i = 0; i < j->n && m->ok; i++) {
        lb_str t = c[i].why == LB_HF_WHY_BESIDE ? tower_of(c[i].path) : LB_STR_NONE;
        bool is_own = t.len == 0;
        for (size_t k = 0; k < LB_LEN(own); k++)
            is_own = is_own || lb_str_eq_c(t, own[k]);
        if (is_own || !seen || holds(seen, t))
            continue;
        lb_str re = lb_arena_printf(m->perm, "re:(.*\\.)?%.*s\\..*", LB_FMT(t));
        m->ok = m->ok && re.ptr && lb_json_push(seen, lb_json_new_str(m->perm, t)) &&
                lb_json_push(list, lb_json_new_str(m->perm, re));
    }
}

/* The module that holds the experts of a layer is one to transformers' fp8, by its own name. */
static void add_experts(maker *m, const lb_hf_choice *c, lb_json *list, lb_str *last) {
    lb_str x = lb_hf_experts_of(c->path);
    if (x.len == 0 || c->quantized || lb_str_eq(x, *last))
        return;
    *last = x;
    m->ok = m->ok && (holds(list, x) || lb_json_push(list, lb_json_new_str(m->perm, x)));
}

static lb_json *ignored(const lb_hf_job *j, const lb_hf_choice *c, maker *m) {
    lb_json *list = lb_json_new_array(m->perm);
    bool head = false, fine = j->form->type == LB_HF_FP8_BLOCK;
    lb_str last = LB_STR_NONE;
    m->ok = m->ok && list;
    for (u64 i = 0; i < j->n && m->ok; i++) {
        head = head || c[i].why == LB_HF_WHY_HEAD;
        head = head || (c[i].why == LB_HF_WHY_OVERRIDE && lb_str_eq_c(c[i].path, "lm_head"));
        if (fine && list)
            add_experts(m, &c[i], list, &last);
        if (is_left(&c[i]))
            m->ok = lb_json_push(list, lb_json_new_str(m->perm, c[i].path));
    }
    if (m->ok)
        (void)add_head(j, m, list, head);
    return list;
}

/* DeepSeek's and Qwen's: what FineGrainedFP8Config and vLLM's Fp8Config read. */
static lb_json *fine(const lb_hf_job *j, const lb_hf_choice *c, maker *m) {
    lb_json *o = lb_json_new_object(m->perm), *size = lb_json_new_array(m->perm);
    set(m, o, "activation_scheme", text(m, "dynamic"));
    set(m, o, "fmt", text(m, "e4m3"));
    set(m, o, "modules_to_not_convert", ignored(j, c, m));
    set(m, o, "quant_method", text(m, "fp8"));
    for (u32 i = 0; i < 2; i++)
        m->ok = m->ok && size && lb_json_push(size, lb_json_new_u64(m->perm, 128));
    set(m, o, "weight_block_size", size);
    return o;
}

/* vLLM looks for the experts of a stack as if each were a module. */
static void add_stacks(const lb_hf_job *j, const lb_hf_choice *c, maker *m, lb_json *list) {
    bool left = false, codes = false;
    for (u64 i = 0; i < j->n; i++) {
        left = left || (c[i].stack && !c[i].quantized && c[i].why != LB_HF_WHY_NO_MODULE);
        codes = codes || (c[i].quantized && lb_hf_experts_of(c[i].path).len);
    }
    if (left && !codes)
        m->ok = lb_json_push(list, text(m, "re:.*\\.experts\\..*"));
}

/* A group a form; the default's targets the class, the others' names, which are looked at first. */
static lb_json *groups(const lb_hf_job *j, const lb_hf_choice *c, maker *m, u32 *n) {
    lb_json *o = lb_json_new_object(m->perm);
    const lb_hf_form *forms[8] = {j->form};
    char key[16];
    *n = 1;
    for (u64 i = 0; i < j->n; i++) {
        u32 k = 0;
        while (k < *n && (!c[i].quantized || !same_form(forms[k], &c[i].form)))
            k++;
        if (c[i].quantized && k == *n && k < LB_LEN(forms))
            forms[(*n)++] = &c[i].form;
    }
    for (u32 k = 0; k < *n; k++) {
        lb_json *targets = lb_json_new_array(m->perm);
        for (u64 i = 0; i < j->n && k && targets; i++)
            if (c[i].quantized && same_form(forms[k], &c[i].form))
                m->ok = m->ok && lb_json_push(targets, lb_json_new_str(m->perm, c[i].path));
        if (k == 0)
            m->ok = m->ok && targets && lb_json_push(targets, text(m, "Linear"));
        snprintf(key, sizeof key, "group_%u", k);
        set(m, o, key, scheme(m, forms[k], targets));
    }
    return o;
}

static lb_json *compressed(const lb_hf_job *j, const lb_hf_choice *c, maker *m) {
    lb_json *o = lb_json_new_object(m->perm);
    u32 n;
    set(m, o, "config_groups", groups(j, c, m, &n));
    set(m, o, "format", text(m, n > 1 ? "mixed-precision" : format_of(j->form)));
    set(m, o, "global_compression_ratio", lb_json_new_null(m->perm));
    lb_json *list = ignored(j, c, m);
    if (m->ok)
        add_towers(j, c, m, list);
    if (m->ok)
        add_stacks(j, c, m, list);
    set(m, o, "ignore", list);
    set(m, o, "kv_cache_scheme", lb_json_new_null(m->perm));
    set(m, o, "moe_sparsity_config", lb_json_new_null(m->perm));
    set(m, o, "quant_method", text(m, "compressed-tensors"));
    set(m, o, "quantization_status", text(m, "compressed"));
    set(m, o, "sparsity_config", lb_json_new_object(m->perm));
    set(m, o, "transform_config", lb_json_new_object(m->perm));
    set(m, o, "version", text(m, CT_VERSION));
    return o;
}

lb_status lb_hf_config(const lb_hf_job *job, const lb_hf_choice *choices, lb_arena *perm,
                       lb_json **out, lb_err *err) {
    maker m = {.perm = perm, .ok = true};
    *out =
        job->form->type == LB_HF_FP8_BLOCK ? fine(job, choices, &m) : compressed(job, choices, &m);
    return m.ok ? LB_OK : lb_fail(err, LB_E_NOMEM, "out of memory for the config");
}
