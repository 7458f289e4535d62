/* SPDX-License-Identifier: Apache-2.0 */
/* config_full.c: a config that leaves nothing to its class. */
#include "arch/arch_internal.h"

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "config.json: out of memory");
}

static bool add(lb_json *config, lb_str key, const lb_json *v, lb_arena *s) {
    lb_str name = lb_arena_str(s, key);
    return name.ptr && lb_json_set(s, config, name.ptr, lb_json_copy(s, v));
}

/* What the class takes for a field that is not there; null says no more than that. */
static lb_status add_fields(const lb_arch *a, const lb_arch_normal *n, lb_json *config, lb_arena *s,
                            lb_err *err) {
    lb_json *fields;
    if (!a->defaults)
        return LB_OK;
    LB_TRY(lb_json_parse(lb_str_c(a->defaults), "a table", s, &fields, err));
    for (const lb_json *d = fields->first; d; d = d->next) {
        bool optional, number;
        lb_str key = lb_arch_field_name(d->key, &optional, &number);
        const lb_json *has = lb_json_get_str(config, key), *v = lb_json_get_str(n->config, key);
        if ((!has || has->type == LB_JNULL) && v && v->type != LB_JNULL && !add(config, key, v, s))
            return no_memory(err);
    }
    return LB_OK;
}

/* Under transformers 4's names, which the classes of 5 read too. */
static bool add_rope(const lb_arch_normal *n, lb_json *config, lb_arena *s) {
    static const char *const apart[] = {"rope_theta", "partial_rotary_factor"};
    const lb_json *type = lb_json_get(n->rope, "rope_type"), *had;
    lb_json *scaling = n->rope ? lb_json_copy(s, n->rope) : NULL;
    for (size_t i = 0; i < LB_LEN(apart); i++) {
        const lb_json *v = lb_json_get(n->rope, apart[i]);
        if (v && !lb_json_get(config, apart[i]) && !add(config, lb_str_c(apart[i]), v, s))
            return false;
        lb_json_remove(scaling, apart[i]);
    }
    had = lb_json_get(config, "rope_scaling");
    if (!type || lb_str_eq_c(type->text, "default") || (had && had->type != LB_JNULL))
        return true;
    return (lb_json_get(scaling, "type") || add(scaling, LB_STR("type"), type, s)) &&
           lb_json_set(s, config, "rope_scaling", scaling);
}

lb_status lb_arch_config_full(const lb_json *config, lb_arena *perm, lb_json **out, lb_err *err) {
    const lb_arch *a;
    lb_hparams hp;
    lb_arch_normal n;
    LB_TRY(lb_arch_from_config(config, &a, &hp, err));
    if (hp.outer)
        return lb_fail(err, LB_E_UNSUPPORTED, "config.json: a language model among other parts");
    LB_TRY(lb_arch_normalise(config, perm, &n, err));
    *out = lb_json_copy(perm, config);
    if (!*out)
        return no_memory(err);
    LB_TRY(add_fields(a, &n, *out, perm, err));
    return add_rope(&n, *out, perm) ? LB_OK : no_memory(err);
}
