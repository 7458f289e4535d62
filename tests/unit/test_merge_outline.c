/* SPDX-License-Identifier: Apache-2.0 */
/* test_merge_outline.c: what the tensors of a merge are made of: layers through slices, gradients,
 * filters, who says what of a parameter, inputs that lack a tensor, contracts, shapes, parts of a
 * model, tied matrices, what is skipped; each fault by its line. mergekit's own planner is compared
 * with in tests/peers/peer_merge_outline.py. */
#include "test.h"
#include "merge/outline.h"
#include <math.h>

static lb_arena arena;
static lb_err err;

/* ---- methods with the contracts of mergekit's ---- */

static const lb_merge_param linear_params[] = {
    {.name = "weight", .scope = LB_MERGE_INPUT, .required = true},
    {.name = "normalize", .kind = LB_MERGE_BOOL, .initial = 1},
};
static const lb_merge_method linear = {
    .name = "linear", .params = linear_params, .n_params = 2, .min_in = 1};

static const lb_merge_param ties_params[] = {
    {.name = "normalize", .kind = LB_MERGE_BOOL, .initial = 1},
    {.name = "lambda", .initial = 1},
    {.name = "weight", .scope = LB_MERGE_NON_BASE, .required = true},
    {.name = "density", .scope = LB_MERGE_NON_BASE, .initial = 1, .min = 0, .max = 1},
};
static const lb_merge_method ties = {
    .name = "ties", .params = ties_params, .n_params = 4, .base = LB_BASE_REQUIRED, .min_in = 1};

static const lb_merge_param slerp_params[] = {{.name = "t", .required = true}};
static const lb_merge_method slerp = {.name = "slerp",
                                      .params = slerp_params,
                                      .n_params = 1,
                                      .base = LB_BASE_REQUIRED,
                                      .min_in = 2,
                                      .max_in = 2,
                                      .lack = LB_LACK_COPY_ONE};
static const lb_merge_method nearswap = {.name = "nearswap",
                                         .params = slerp_params,
                                         .n_params = 1,
                                         .base = LB_BASE_REQUIRED,
                                         .min_in = 2,
                                         .max_in = 2,
                                         .lack = LB_LACK_COPY_BASE};

static const lb_merge_param pass_params[] = {
    {.name = "scale", .scope = LB_MERGE_INPUT, .initial = NAN}};
static const lb_merge_method pass = {
    .name = "passthrough", .params = pass_params, .n_params = 1, .min_in = 1, .max_in = 1};

static const lb_merge_method stock = {
    .name = "model_stock", .base = LB_BASE_REQUIRED, .min_in = 3, .lack = LB_LACK_BASE_OR_NOTHING};
static const lb_merge_method two = {
    .name = "nuslerp", .base = LB_BASE_OPTIONAL, .min_in = 1, .min_non_base = 2, .max_non_base = 2};
static const lb_merge_param karcher_params[] = {
    {.name = "max_iter", .kind = LB_MERGE_INT, .initial = 10}};
static const lb_merge_method karcher = {
    .name = "karcher", .params = karcher_params, .n_params = 1, .min_in = 1};

/* ---- models ---- */

enum {
    TIED = 1,        /* no output matrix */
    BIAS = 2,        /* q_proj.bias, optional */
    ROT = 4,         /* an integer buffer */
    WIDE = 8,        /* 12 tokens, not 10 */
    HOLE = 16,       /* layer 1 lacks mlp */
    MTP = 32,        /* a layer behind the counted ones */
    VISION = 64,     /* a tower of two layers, module 1 */
    THICK = 128,     /* norms of 5 */
    FLOAT_ROT = 256, /* that buffer as floats */
};

#define MODELS_MAX 4
static const char *const modules[] = {"text_decoder", "vision_tower"};
static lb_str module_names[2];
static lb_merge_model models[MODELS_MAX];
static u64 counts[MODELS_MAX][2];
static lb_merge_world world;

static lb_merge_fact *put(u32 m, const char *name, u64 rows, u64 cols) {
    lb_merge_fact *f = (lb_merge_fact *)(uintptr_t)&models[m].facts[models[m].n_facts++];
    *f = (lb_merge_fact){.name = lb_arena_str(&arena, lb_str_c(name)),
                         .shape = {.rank = cols ? 2 : 1, .dim = {rows, cols}},
                         .dtype = LB_BF16,
                         .layer = LB_NO_LAYER,
                         .same_as = LB_NO_FACT};
    return f;
}

static lb_merge_fact *put_layer(u32 m, u32 layer, const char *fmt, u64 rows, u64 cols) {
    lb_str name = lb_arena_printf(&arena, "model.layers.%u.%s", layer, fmt);
    lb_merge_fact *f = put(m, name.ptr, rows, cols);
    f->layer = layer;
    return f;
}

static void model(u32 m, u64 n_layers, u32 flags) {
    models[m] = (lb_merge_model){.n_layers = counts[m],
                                 .facts = lb_arena_new(&arena, lb_merge_fact, 16 + 5 * n_layers)};
    counts[m][0] = n_layers;
    counts[m][1] = flags & VISION ? 2 : 0;
    u64 vocab = flags & WIDE ? 12 : 10;
    put(m, "model.norm.weight", flags & THICK ? 5 : 4, 0)->after = true;
    put(m, "model.embed_tokens.weight", vocab, 4)->is_vocab = true;
    lb_merge_fact *head = put(m, "lm_head.weight", vocab, 4);
    head->is_vocab = head->after = head->is_optional = true;
    if (flags & TIED)
        head->same_as = 1;
    for (u32 i = 0; i < n_layers; i++) {
        put_layer(m, i, "q_proj.weight", 4, 4);
        if (flags & BIAS)
            put_layer(m, i, "q_proj.bias", 4, 0)->is_optional = true;
        if (!(flags & HOLE) || i != 1)
            put_layer(m, i, "mlp.weight", 8, 4);
    }
    if (flags & (ROT | FLOAT_ROT)) {
        lb_merge_fact *f = put(m, "model.position_ids", 16, 0);
        f->dtype = flags & ROT ? LB_I64 : LB_F32;
        f->is_buffer = flags & ROT;
    }
    if (flags & MTP)
        put_layer(m, (u32)n_layers, "eh_proj.weight", 4, 8);
    for (u32 i = 0; (flags & VISION) && i < 2; i++) {
        lb_merge_fact *f =
            put(m, i ? "visual.blocks.1.attn.weight" : "visual.blocks.0.attn.weight", 4, 4);
        f->module = 1;
        f->layer = i;
    }
    if (flags & VISION)
        put(m, "visual.patch_embed.weight", 4, 4)->module = 1;
}

static void start(u32 n_modules) {
    lb_arena_reset(&arena);
    err = (lb_err){0};
    for (u32 i = 0; i < 2; i++)
        module_names[i] = lb_str_c(modules[i]);
    world = (lb_merge_world){.modules = module_names, .n_modules = n_modules, .models = models};
}

/* models[] stand in the order of the config: base first, then by mention. */
static lb_status make(const char *text, const lb_merge_method *m, lb_merge_outline *o) {
    lb_merge_file f;
    lb_status st = lb_merge_file_parse(lb_str_c(text), "m.yml", 0, &arena, &f, &err);
    if (st != LB_OK)
        return st;
    return lb_merge_outline_make(f.merges, m, &world, &arena, o, &err);
}

#define CHECK_MAKE(text, m, o)                               \
    do {                                                     \
        if (make(text, m, o) != LB_OK) {                     \
            lb_test_fail(__FILE__, __LINE__, "%s", err.msg); \
            return;                                          \
        }                                                    \
    } while (0)

static const lb_merge_tensor *find(const lb_merge_outline *o, const char *name) {
    for (u64 i = 0; i < o->n_tensors; i++)
        if (lb_str_eq_c(o->tensors[i].name, name))
            return &o->tensors[i];
    return NULL;
}

static lb_str fact_name(const lb_merge_slot *s) {
    return models[s->model].facts[s->fact].name;
}

/* ---- tests ---- */

LB_TEST(parameters_of_models) {
    lb_merge_outline o;
    start(1);
    for (u32 i = 0; i < 3; i++)
        model(i, 3, 0);
    CHECK_MAKE(
        "merge_method: ties\n"
        "base_model: base\n"
        "models:\n"
        "- model: a\n"
        "  parameters:\n"
        "    weight: [0, 1]\n"
        "    density: {filter: mlp, value: [0.1, 0.2, 0.6]}\n"
        "- model: b\n"
        "parameters: {weight: 0.25, density: [{filter: q_proj, value: '5e-1'}], lambda: 1e-1,\n"
        "  normalize: [true, false]}\n",
        &ties, &o);
    CHECK_U64(o.n_tensors, 9);
    CHECK_U64(o.n_skipped, 0);
    const lb_merge_tensor *t = find(&o, "model.layers.1.mlp.weight");
    CHECK(t && t->n_slots == 3 && t->layer == 1 && t->method == &ties);
    if (!t)
        return;
    CHECK(t->slots[0].model == 1 && t->slots[1].model == 2 && t->slots[2].model == 0);
    CHECK(t->slots[2].is_base && !t->slots[0].is_base);
    CHECK(t->slots[0].param[2] == 0.5 && t->slots[0].param[3] == 0.2);
    CHECK(t->slots[1].param[2] == 0.25 && t->slots[1].param[3] == 1);
    CHECK(t->param[1] == 0.1 && t->param[0] == 1); /* t = 0.5 picks the first of two */
    t = find(&o, "model.layers.2.q_proj.weight");
    CHECK(t && t->slots[0].param[2] == 1 && t->slots[0].param[3] == 0.5 && t->param[0] == 0);
    t = find(&o, "model.embed_tokens.weight"); /* t = 0 */
    CHECK(t && t->slots[0].param[2] == 0 && t->slots[0].param[3] == 1 && t->is_vocab);
    t = find(&o, "lm_head.weight");
    CHECK(t && t->layer == LB_NO_LAYER && t->slots[0].param[2] == 0);
    /* bytewise */
    CHECK_STR(o.tensors[0].name, "lm_head.weight");
    CHECK_STR(o.tensors[1].name, "model.embed_tokens.weight");
    CHECK_STR(o.tensors[8].name, "model.norm.weight");
    CHECK_U64(o.parts[0].n_layers, 3);
    CHECK(o.parts[0].from[2].model == 0 && o.parts[0].from[2].layer == 2);
}

LB_TEST(slices_and_levels) {
    lb_merge_outline o;
    start(1);
    model(0, 6, 0); /* a: the base */
    model(1, 12, 0);
    CHECK_MAKE("merge_method: slerp\n"
               "base_model: a\n"
               "slices:\n"
               "- sources:\n"
               "  - {model: a, layer_range: [0, 2]}\n"
               "  - {model: b, layer_range: [10, 12]}\n"
               "  parameters:\n"
               "    t: [{filter: layers.1.mlp, value: 0.9}, {filter: q_proj, value: [0, 1]}]\n"
               "- sources: [{model: b, layer_range: [3, 6]}, {model: a, layer_range: [1, 4]}]\n"
               "parameters: {t: [0.5, 1]}\n",
               &slerp, &o);
    CHECK_U64(o.parts[0].n_layers, 5);
    CHECK(o.parts[0].from[3].model == 0 && o.parts[0].from[3].layer == 2);
    CHECK_U64(o.n_tensors, 13);
    const lb_merge_tensor *t = find(&o, "model.layers.1.mlp.weight");
    CHECK(t && t->param[0] == 0.9 && t->n_slots == 2);
    if (t) {
        CHECK_STR(fact_name(&t->slots[0]), "model.layers.1.mlp.weight");
        CHECK_STR(fact_name(&t->slots[1]), "model.layers.11.mlp.weight");
        CHECK(t->slots[0].is_base);
    }
    t = find(&o, "model.layers.0.mlp.weight");
    CHECK(t && t->param[0] == 0.5);
    t = find(&o, "model.layers.1.q_proj.weight");
    CHECK(t && t->param[0] == 1);
    t = find(&o, "model.layers.3.q_proj.weight");
    CHECK(t && t->param[0] == 0.75 && t->slots[0].model == 1 && t->slots[1].is_base);
    if (t)
        CHECK_STR(fact_name(&t->slots[0]), "model.layers.4.q_proj.weight");
    /* by the greatest name that is read: layer 11 of b stands before layer 2 of it */
    CHECK_STR(o.tensors[2].name, "model.layers.0.mlp.weight");
    CHECK_STR(o.tensors[4].name, "model.layers.1.mlp.weight");
    CHECK_STR(o.tensors[6].name, "model.layers.2.mlp.weight");
    u64 n[4] = {0};
    for (u64 i = 0; i < o.n_skipped; i++)
        n[o.skipped[i].why]++;
    CHECK(n[LB_SKIP_LAYER] == 2 * 2 + 2 * 7 && o.n_skipped == n[LB_SKIP_LAYER]);
}

/* A slice of one layer is at the end of its gradients, as in mergekit; what has no layer at the
 * beginning. */
LB_TEST(one_layer_alone) {
    lb_merge_outline o;
    start(1);
    model(0, 1, 0);
    CHECK_MAKE("merge_method: linear\nmodels: [{model: a}]\nparameters: {weight: [1, 2, 4]}\n",
               &linear, &o);
    const lb_merge_tensor *t = find(&o, "model.layers.0.mlp.weight");
    CHECK(t && t->slots[0].param[0] == 4);
    t = find(&o, "model.norm.weight");
    CHECK(t && t->slots[0].param[0] == 1);
}

LB_TEST(frankenmerge) {
    lb_merge_outline o;
    start(1);
    model(0, 4, 0); /* donor */
    model(1, 4, BIAS);
    model(2, 4, TIED);
    static const char text[] = "merge_method: passthrough\nbase_model: donor\nslices:\n"
                               "- sources: [{model: a, layer_range: [0, 3]}]\n"
                               "- sources: [{model: a, layer_range: [1, 2], parameters: {scale: "
                               "[{filter: layers.1.q_proj.weight, value: 2}]}}]\n"
                               "- sources: [{model: c, layer_range: [3, 4]}]\n"
                               "- sources: [{model: c, layer_range: [4, 4]}]\n";
    CHECK_MAKE(text, &pass, &o);
    CHECK_U64(o.parts[0].n_layers, 5);
    const lb_merge_tensor *t = find(&o, "model.layers.3.q_proj.weight"); /* a filter on an input */
    CHECK(t && t->slots[0].param[0] == 2);
    t = find(&o, "model.layers.2.q_proj.weight");
    CHECK(t && t->slots[0].param[0] != t->slots[0].param[0]);
    CHECK(find(&o, "model.layers.3.q_proj.bias") && !find(&o, "model.layers.4.q_proj.bias"));
    t = find(&o, "model.embed_tokens.weight");
    CHECK(t && t->slots[0].model == 1);
    /* c's output matrix is its embedding, which is not that of the result */
    t = find(&o, "lm_head.weight");
    CHECK(t && t->slots[0].model == 2);
    if (t)
        CHECK_STR(fact_name(&t->slots[0]), "model.embed_tokens.weight");
    CHECK(o.parts[0].from[3].model == 1 && o.parts[0].from[3].layer == 1 &&
          o.parts[0].from[4].model == 2);
    u64 n[4] = {0};
    for (u64 i = 0; i < o.n_skipped; i++)
        n[o.skipped[i].why]++;
    CHECK_U64(n[LB_SKIP_DONOR], 3 + 4 * 2);
    CHECK_U64(n[LB_SKIP_LAYER], 3 + 3 * 2); /* a's layer 3, c's 0 to 2 */
    CHECK_U64(n[LB_SKIP_ENDS], 2);          /* a's head and norm; c's embedding is its head */
    CHECK_U64(n[LB_SKIP_METHOD], 0);
}

/* What is behind the layers takes all of the last slice (mergekit: as many as the first has). */
LB_TEST(more_sources_at_the_end) {
    lb_merge_outline o;
    start(1);
    model(0, 2, 0);
    model(1, 2, 0);
    CHECK_MAKE("merge_method: linear\nparameters: {weight: 1}\nslices:\n"
               "- sources: [{model: a, layer_range: [0, 1]}]\n"
               "- sources: [{model: a, layer_range: [1, 2]}, {model: b, layer_range: [1, 2], "
               "parameters: {weight: 3}}]\n",
               &linear, &o);
    const lb_merge_tensor *t = find(&o, "lm_head.weight");
    CHECK(t && t->n_slots == 2 && t->slots[1].param[0] == 3);
    t = find(&o, "model.embed_tokens.weight");
    CHECK(t && t->n_slots == 1);
}

LB_TEST(tied) {
    lb_merge_outline o;
    start(1);
    static const char text[] = "merge_method: linear\nmodels: [{model: a}, {model: b}]\n"
                               "parameters: {weight: [{filter: lm_head, value: 3}, {value: 1}]}\n";
    model(0, 1, TIED);
    model(1, 1, TIED);
    CHECK_MAKE(text, &linear, &o);
    CHECK(!find(&o, "lm_head.weight"));
    CHECK_U64(o.n_skipped, 0);
    model(1, 1, 0);
    CHECK_MAKE(text, &linear, &o);
    const lb_merge_tensor *t = find(&o, "lm_head.weight");
    CHECK(t && t->n_slots == 2 && t->slots[0].param[0] == 3);
    if (!t)
        return;
    CHECK_STR(fact_name(&t->slots[0]), "model.embed_tokens.weight");
    CHECK_STR(fact_name(&t->slots[1]), "lm_head.weight");
    CHECK_STR(o.tensors[0].name, "model.embed_tokens.weight"); /* both are read under that name */
    CHECK_STR(o.tensors[1].name, "lm_head.weight");
}

LB_TEST(lacking) {
    lb_merge_outline o;
    static const char pair[] = "merge_method: x\nbase_model: base\nmodels: [{model: a}]\n"
                               "parameters: {t: 1}\n";
    static const char four[] =
        "merge_method: x\nbase_model: base\nmodels: [{model: a}, {model: b}, "
        "{model: c}]\n";
    start(1);
    model(0, 1, 0);
    model(1, 1, BIAS);
    CHECK_MAKE(pair, &slerp, &o);
    const lb_merge_tensor *t = find(&o, "model.layers.0.q_proj.bias");
    CHECK(t && !t->method && t->n_slots == 1 && t->slots[0].model == 1 && !t->equal && !t->param);
    CHECK_U64(make(pair, &nearswap, &o), LB_E_FORMAT);
    CHECK(strstr(err.msg,
                 "m.yml: line 3: models: tensor 'model.layers.0.q_proj.bias': is missing in "
                 "the base, base"));
    model(0, 1, BIAS);
    model(1, 1, 0);
    CHECK_MAKE(pair, &nearswap, &o);
    t = find(&o, "model.layers.0.q_proj.bias");
    CHECK(t && !t->method && t->slots[0].is_base);
    /* merged from those that have it */
    model(2, 1, BIAS);
    model(3, 1, 0);
    CHECK_MAKE("merge_method: x\nbase_model: base\nmodels: [{model: a}, {model: b}, {model: c}]\n"
               "parameters: {weight: 1}\n",
               &ties, &o);
    t = find(&o, "model.layers.0.q_proj.bias");
    CHECK(t && t->method == &ties && t->n_slots == 2 && t->slots[0].model == 2);
    /* model_stock: too few: the base's alone, else nothing */
    model(2, 1, 0);
    CHECK_MAKE(four, &stock, &o);
    t = find(&o, "model.layers.0.q_proj.bias");
    CHECK(t && !t->method && t->slots[0].is_base);
    model(1, 1, BIAS);
    CHECK_MAKE(four, &stock, &o);
    CHECK(!find(&o, "model.layers.0.q_proj.bias"));
    CHECK(o.n_skipped == 2 && o.skipped[0].why == LB_SKIP_METHOD && o.skipped[1].model == 1);
    model(0, 1, 0);
    CHECK_MAKE(four, &stock, &o);
    CHECK(!find(&o, "model.layers.0.q_proj.bias") && o.n_skipped == 1);
    /* what no model of the family may lack */
    model(0, 2, HOLE);
    model(1, 2, 0);
    CHECK_U64(make(pair, &slerp, &o), LB_E_FORMAT);
    CHECK(strstr(err.msg, "tensor 'model.layers.1.mlp.weight': is missing in base"));
}

LB_TEST(buffers) {
    lb_merge_outline o;
    static const char text[] = "merge_method: linear\nmodels: [{model: a}, {model: b}]\n"
                               "parameters: {weight: 1}\n";
    start(1);
    model(0, 1, ROT);
    model(1, 1, ROT);
    CHECK_MAKE(text, &linear, &o);
    const lb_merge_tensor *t = find(&o, "model.position_ids");
    CHECK(t && !t->method && t->equal && t->n_slots == 2);
    model(1, 1, FLOAT_ROT);
    CHECK_U64(make(text, &linear, &o), LB_E_FORMAT);
    CHECK(strstr(err.msg, "'model.position_ids': is i64 in a and f32 in b"));
}

LB_TEST(shapes) {
    lb_merge_outline o;
    static const char text[] = "merge_method: linear\nmodels: [{model: a}, {model: b}]\n"
                               "parameters: {weight: 1}\n";
    start(1);
    model(0, 1, 0);
    model(1, 1, THICK);
    CHECK_U64(make(text, &linear, &o), LB_E_FORMAT);
    CHECK(strstr(err.msg,
                 "m.yml: line 2: models: tensor 'model.norm.weight': is [4] in a and [5] in b"));
    CHECK(!strstr(err.msg, "tokenizer"));
    model(1, 1, WIDE);
    CHECK_U64(make(text, &linear, &o), LB_E_FORMAT);
    CHECK(strstr(err.msg, "'model.embed_tokens.weight': is [10, 4] in a and [12, 4] in b"));
    CHECK(strstr(err.msg, "tokenizer_source: union or base"));
    CHECK_MAKE("merge_method: linear\nmodels: [{model: a}, {model: b}]\n"
               "parameters: {weight: 1}\ntokenizer_source: union\n",
               &linear, &o);
    CHECK(find(&o, "lm_head.weight")->is_vocab);
}

/* A stack of layers of two sizes fits no config; vocabularies may differ. */
LB_TEST(shapes_of_the_donor) {
    lb_merge_outline o;
    static const char text[] = "merge_method: passthrough\nslices:\n"
                               "- sources: [{model: a, layer_range: [0, 2]}]\n"
                               "- sources: [{model: b, layer_range: [1, 3]}]\n";
    start(1);
    model(0, 3, 0);
    model(1, 3, WIDE);
    CHECK_MAKE(text, &pass, &o);
    model(1, 3, THICK);
    CHECK_U64(make(text, &pass, &o), LB_E_FORMAT);
    CHECK(strstr(err.msg,
                 "m.yml: line 4: slices[1]: tensor 'model.norm.weight': is [5] in b and [4] "
                 "in a, whose config the result has"));
    model(1, 3, 0);
    lb_merge_fact *f = (lb_merge_fact *)(uintptr_t)models[1].facts;
    for (u32 i = 0; i < models[1].n_facts; i++)
        if (lb_str_eq_c(f[i].name, "model.layers.2.mlp.weight"))
            f[i].shape.dim[0] = 16;
    CHECK_U64(make(text, &pass, &o), LB_E_FORMAT);
    CHECK(strstr(err.msg, "'model.layers.3.mlp.weight': is [16, 4] in b and [8, 4] in a"));
    /* of a family whose layers differ */
    f = (lb_merge_fact *)(uintptr_t)models[0].facts;
    for (u32 i = 0; i < models[0].n_facts; i++)
        if (lb_str_eq_c(f[i].name, "model.layers.0.mlp.weight"))
            f[i].shape.dim[0] = 16;
    CHECK_MAKE(text, &pass, &o);
}

LB_TEST(layers_behind_the_counted) {
    lb_merge_outline o;
    start(1);
    model(0, 3, MTP);
    CHECK_MAKE("merge_method: passthrough\nslices:\n- sources: [{model: a, layer_range: [0, 3]}]\n"
               "- sources: [{model: a, layer_range: [1, 3]}]\n",
               &pass, &o);
    const lb_merge_tensor *t = find(&o, "model.layers.5.eh_proj.weight");
    CHECK(t && t->layer == 5 && o.n_skipped == 0);
    if (t)
        CHECK_STR(fact_name(&t->slots[0]), "model.layers.3.eh_proj.weight");
    CHECK_U64(o.parts[0].n_layers, 5);
}

LB_TEST(parts) {
    lb_merge_outline o;
    start(2);
    model(0, 3, VISION);
    model(1, 3, VISION);
    CHECK_MAKE("merge_method: linear\nmodels: [{model: a}, {model: b}]\n"
               "parameters: {weight: [0, 1]}\n",
               &linear, &o);
    CHECK_U64(o.n_tensors, 9 + 3);
    const lb_merge_tensor *t = find(&o, "visual.blocks.1.attn.weight");
    CHECK(t && t->module == 1 && t->layer == 1 && t->slots[0].param[0] == 1);
    CHECK(o.parts[0].n_layers == 3 && o.parts[1].n_layers == 2);
    CHECK_MAKE("merge_method: linear\nmodules:\n"
               "  text_decoder:\n    slices:\n"
               "    - sources: [{model: a, layer_range: [0, 1]}, {model: b, layer_range: [2, 3]}]\n"
               "    parameters: {weight: 5}\n"
               "  vision_tower: {models: [{model: b}]}\n"
               "parameters: {weight: 1}\n",
               &linear, &o);
    t = find(&o, "model.layers.0.mlp.weight");
    CHECK(t && t->n_slots == 2 && t->slots[1].param[0] == 5);
    t = find(&o, "visual.patch_embed.weight");
    CHECK(t && t->n_slots == 1 && t->slots[0].param[0] == 1 && t->slots[0].model == 1);
    CHECK(!find(&o, "model.layers.1.mlp.weight"));
    CHECK_U64(make("merge_method: linear\nslices: [{sources: [{model: a, layer_range: [0, 1]}]}]\n",
                   &linear, &o),
              LB_E_FORMAT);
    CHECK(strstr(err.msg, "line 2: slices: the models have several parts (text_decoder, "
                          "vision_tower...)"));
    CHECK_U64(make("merge_method: linear\nmodules:\n  vision_towr: {models: [{model: a}]}\n",
                   &linear, &o),
              LB_E_FORMAT);
    CHECK(strstr(err.msg, "line 3: modules: the models have no 'vision_towr'"));
    CHECK_U64(make("merge_method: linear\nparameters: {weight: 1}\nmodules:\n"
                   "  vision_tower: {models: [{model: a}]}\n",
                   &linear, &o),
              LB_E_FORMAT);
    CHECK(strstr(err.msg, "nothing is said of text_decoder"));
    start(1);
    model(0, 1, 0);
    CHECK_MAKE("merge_method: linear\nmodules: {default: {models: [{model: a}]}}\n"
               "parameters: {weight: 1}\n",
               &linear, &o);
}

#define PAIR "models: [{model: a}, {model: b}]\n"

static const struct {
    const lb_merge_method *method;
    const char *text, *message;
} faults[] = {
    {NULL, "merge_method: liner\n" PAIR,
     "line 1: merge_method: there is no 'liner'; did you mean linear?"},
    {&linear, "merge_method: linear\n" PAIR,
     "line 1: merge_method linear needs the parameter `weight`, "
     "which is not set for model a, tensor '"},
    {&linear,
     "merge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}]\nbase_model: b\n",
     "which is not set for model b, tensor 'model.embed_tokens.weight': base_model is merged like"},
    {&linear, "merge_method: linear\n" PAIR "parameters: {weight: [{filter: mlp, value: 1}]}\n",
     "`weight`, which is not set for model a, tensor 'model.embed_tokens.weight'"},
    {&slerp, "merge_method: slerp\nbase_model: a\n" PAIR,
     "needs the parameter `t`, which is not set for tensor"},
    {&linear, "merge_method: linear\n" PAIR "parameters:\n  weigth: 1\n",
     "line 4: parameters.weigth: no method has such a parameter; did you mean weight?"},
    {&linear, "merge_method: linear\nmodels:\n- model: a\n  parameters:\n    weight: heavy\n",
     "line 5: models[0].parameters.weight: a finite number is needed"},
    {&linear, "merge_method: linear\n" PAIR "parameters:\n  weight: [1,\n  .nan]\n",
     "line 5: parameters.weight: a finite number is needed"},
    {&linear, "merge_method: linear\n" PAIR "parameters: {weight: 1, normalize: 2}\n",
     "line 3: parameters.normalize: true or false is needed"},
    {&karcher, "merge_method: karcher\n" PAIR "parameters: {max_iter: 2.5}\n",
     "line 3: parameters.max_iter: a whole number is needed"},
    {&karcher, "merge_method: karcher\n" PAIR "parameters: {max_iter: [1, 2]}\n",
     "line 3: parameters.max_iter: the gradient gives 1.5 for tensor 'model.layers.1.mlp.weight'"},
    {&ties, "merge_method: ties\nbase_model: a\n" PAIR "parameters:\n  density: 1.5\n",
     "line 5: parameters.density: 1.5 is out of range: 0 to 1"},
    {&ties, "merge_method: ties\n" PAIR, "line 2: models: merge_method ties needs a base_model"},
    {&slerp, "merge_method: slerp\nbase_model: a\nmodels: [{model: a}]\n",
     "line 3: models: slerp takes 2 models; here are 1 (a)"},
    {&pass, "merge_method: passthrough\n" PAIR,
     "line 2: models: passthrough takes 1 model; here are 2 (a, b)"},
    {&stock, "merge_method: model_stock\nbase_model: a\n" PAIR,
     "line 3: models: model_stock takes at least 3 models; here are 2 (a, b)"},
    {&two, "merge_method: nuslerp\nbase_model: a\n" PAIR,
     "line 3: models: nuslerp takes 2 models beside the base; here are 1 (a, b)"},
    {&linear, "merge_method: linear\nmodels:\n- model: a\n- model: a\n",
     "line 4: models: model a stands twice"},
    {&ties,
     "merge_method: ties\nbase_model: b\nslices:\n- sources: [{model: a, layer_range: [0, 1]}]\n",
     "line 4: slices[0]: base_model b is none of the sources"},
    {&ties,
     "merge_method: ties\nbase_model: a\nslices:\n- sources: [{model: a, layer_range: [0, 1]}]\n"
     "  base_model: x\n",
     "line 4: slices[0]: base_model x is none of the sources"},
    {&pass,
     "merge_method: passthrough\nslices:\n- sources:\n  - model: a\n    layer_range: [2, 4]\n",
     "line 4: slices[0]: layer_range [2, 4]: model a has 3 layers"},
    {&linear,
     "merge_method: linear\nslices:\n- sources: [{model: a, layer_range: [0, 1]}, {model: b, "
     "layer_range: [0, 2]}]\n",
     "line 3: slices[0]: 1 layers of a, but 2 of b: the sources need the same number"},
};

LB_TEST(each_fault_by_its_line) {
    for (u32 i = 0; i < LB_LEN(faults); i++) {
        lb_merge_outline o;
        start(1);
        model(0, 3, 0);
        model(1, 3, 0);
        if (make(faults[i].text, faults[i].method, &o) != LB_E_FORMAT)
            lb_test_fail(__FILE__, __LINE__, "%s: taken %s", faults[i].text, err.msg);
        else if (!strstr(err.msg, faults[i].message) || strncmp(err.msg, "m.yml: ", 7) != 0 ||
                 strchr(err.msg, '\n'))
            lb_test_fail(__FILE__, __LINE__, "%s: %s, not %s", faults[i].text, err.msg,
                         faults[i].message);
    }
}

LB_TEST(models_that_do_not_fit) {
    lb_merge_outline o;
    start(1);
    model(0, 3, 0);
    model(1, 4, 0);
    CHECK_U64(make("merge_method: linear\n" PAIR "parameters: {weight: 1}\n", &linear, &o),
              LB_E_FORMAT);
    CHECK(strstr(err.msg, "models: 3 layers of a, but 4 of b"));
    counts[1][0] = 5; /* more than there are */
    CHECK_U64(make("merge_method: passthrough\nbase_model: a\nslices:\n"
                   "- sources: [{model: b, layer_range: [3, 5]}]\n",
                   &pass, &o),
              LB_E_FORMAT);
    CHECK(strstr(err.msg, "slices[0]: model b has no tensor of layer 4"));
    model(1, 3, 0);
    put(1, "model.norm.weight", 4, 0)->after = true;
    CHECK_U64(make("merge_method: linear\n" PAIR "parameters: {weight: 1}\n", &linear, &o),
              LB_E_FORMAT);
    CHECK(strstr(err.msg, "b: tensor 'model.norm.weight' is there twice"));
    model(1, 3, 0);
    put(1, "model.norms.weight", 4, 0)->layer = 2;
    CHECK_U64(make("merge_method: linear\n" PAIR "parameters: {weight: 1}\n", &linear, &o),
              LB_E_FORMAT);
    CHECK(strstr(err.msg,
                 "b: tensor 'model.norms.weight': the number of its layer, 2, does not stand"));
}

/* A layer in two slices: its bias is taken in one and dropped in the other, whichever is first. */
LB_TEST(dropped_and_taken) {
    static const char taken[] =
        "- sources: [{model: a, layer_range: [0, 1]}, {model: b, layer_range: "
        "[0, 1]}, {model: c, layer_range: [0, 1]}]\n  base_model: a\n";
    static const char dropped[] = "- sources: [{model: base, layer_range: [0, 1]}, {model: a, "
                                  "layer_range: [0, 1]}, {model: b, layer_range: [1, 2]}]\n";
    for (u32 i = 0; i < 2; i++) {
        lb_merge_outline o;
        start(1);
        model(0, 2, 0);
        model(1, 2, BIAS);
        model(2, 2, BIAS);
        model(3, 2, BIAS);
        lb_str text = lb_arena_printf(&arena, "merge_method: x\nbase_model: base\nslices:\n%s%s",
                                      i ? taken : dropped, i ? dropped : taken);
        /* mention decides on the order of a, b, c: the same in both */
        CHECK_MAKE(text.ptr, &stock, &o);
        u32 n = 0;
        for (u64 s = 0; s < o.n_skipped; s++)
            n += o.skipped[s].why == LB_SKIP_METHOD;
        CHECK_U64(n, 1); /* b's of layer 1 */
        CHECK(find(&o, i ? "model.layers.0.q_proj.bias" : "model.layers.1.q_proj.bias") != NULL);
        CHECK(!find(&o, i ? "model.layers.1.q_proj.bias" : "model.layers.0.q_proj.bias"));
    }
}

/* What a linear merge has no use for is no slip: another method's parameter. */
LB_TEST(settings_without_use) {
    lb_merge_outline o;
    start(1);
    model(0, 1, 0);
    CHECK_MAKE("merge_method: linear\nmodels: [{model: a}]\nparameters:\n  weight: 1\n  scale: 2\n",
               &linear, &o);
    CHECK_U64(o.n_notes, 1);
    CHECK(strstr(o.notes[0].ptr, "m.yml: line 5: parameters.scale: says nothing: linear has no"));
}

/* The number of the layer is where the fact says, if that is not the first that could be it. */
LB_TEST(place_of_the_number) {
    lb_merge_outline o;
    start(1);
    model(0, 2, 0);
    static const char *const names[] = {"enc.0.blocks.0.w", "enc.0.blocks.1.w"};
    for (u32 i = 0; i < 2; i++) {
        lb_merge_fact *f = put(0, names[i], 4, 4);
        f->layer = i;
        f->layer_at = 13;
    }
    CHECK_MAKE("merge_method: passthrough\nslices:\n- sources: [{model: a, layer_range: [1, 2]}]\n"
               "- sources: [{model: a, layer_range: [0, 1]}]\n",
               &pass, &o);
    const lb_merge_tensor *t = find(&o, "enc.0.blocks.1.w");
    CHECK(t != NULL);
    if (t)
        CHECK_STR(fact_name(&t->slots[0]), "enc.0.blocks.0.w");
}

LB_TEST(failing_memory) {
    u32 failed = 0;
    for (u64 n = 1; n < 80; n++) {
        lb_merge_outline o;
        lb_merge_file f;
        lb_arena a = {0};
        start(1);
        model(0, 2, 0);
        model(1, 2, BIAS);
        CHECK_OK(lb_merge_file_parse(
            LB_STR("merge_method: slerp\nbase_model: a\n" PAIR "parameters: {t: [0, 1]}\n"), "t", 0,
            &arena, &f, &err));
        lb_mem_fail_at(n);
        lb_status st = lb_merge_outline_make(f.merges, &slerp, &world, &a, &o, &err);
        lb_mem_fail_at(0);
        CHECK(st == LB_OK || st == LB_E_NOMEM);
        failed += st == LB_E_NOMEM;
        lb_arena_deinit(&a);
    }
    CHECK(failed > 5);
}

LB_TEST_MAIN("fast")
