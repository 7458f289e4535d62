/* SPDX-License-Identifier: Apache-2.0 */
/* test_merge_config.c: merge files: what is read of them, by which line and key each fault is
 * named, how pydantic takes scalars (its answers, of 2.14, stand in the tables), documents that
 * refer to each other, every prefix of a text, memory that fails. */
#include "test.h"
#include "merge/config.h"

static lb_arena arena;
static lb_err err;

static lb_status parse(const char *text, u32 flags, lb_merge_file *f) {
    lb_arena_reset(&arena);
    err = (lb_err){0};
    return lb_merge_file_parse(lb_str_c(text), "m.yml", flags, &arena, f, &err);
}

static const lb_merge_config *read_one(const char *text) {
    static lb_merge_file f;
    if (parse(text, 0, &f) != LB_OK) {
        lb_test_fail(__FILE__, __LINE__, "%s: %s", text, err.msg);
        return NULL;
    }
    return &f.merges[f.n_merges - 1];
}

static void check_ref(const lb_merge_ref *r, const char *want) {
    lb_str s = lb_arena_printf(&arena, "%.*s|%.*s|%.*s|%.*s|%.*s|%.*s", LB_FMT(r->text),
                               LB_FMT(r->path), LB_FMT(r->revision), LB_FMT(r->lora),
                               LB_FMT(r->lora_revision), LB_FMT(r->override_architecture));
    CHECK_STR(s, want);
}

LB_TEST(models_form) {
    const lb_merge_config *c = read_one("models:\n"
                                        "  - model: org/a\n"
                                        "    parameters:\n"
                                        "      weight: 1e-5\n"
                                        "  - model: org/b@v2+./lora@main\n"
                                        "  - model: {model: {path: c, revision: r}, lora: d}\n"
                                        "merge_method: ties\n"
                                        "base_model: base\n"
                                        "parameters: {normalize: yes, density: [0, 0.5, '1']}\n"
                                        "dtype: bfloat16\n"
                                        "out_dtype: torch.float32\n"
                                        "random_seed: 0\n");
    if (!c)
        return;
    CHECK_U64(c->n_models, 4);
    CHECK_U64(c->n_refs, 4);
    CHECK_U64(c->base, 0);
    check_ref(&c->models[0], "base|base||||");
    check_ref(&c->models[1], "org/a|org/a||||");
    check_ref(&c->models[2], "org/b@v2+./lora@main|org/b|v2|./lora|main|");
    check_ref(&c->models[3], "c@r+d|c|r|d||");
    CHECK_U64(c->models[2].line, 5);
    CHECK_STR(c->method, "ties");
    CHECK_U64(c->method_line, 7);
    CHECK(c->has_dtype && c->dtype == LB_BF16 && c->has_out_dtype && c->out_dtype == LB_F32);
    CHECK_U64(c->n_modules, 1);
    CHECK_U64(c->modules->name.len, 0);
    CHECK_U64(c->modules->n_slices, 1);
    const lb_merge_slice *s = c->modules->slices;
    CHECK_U64(s->n_sources, 4); /* the base behind */
    CHECK(s->sources[0].all && s->sources[0].model == 1 && !s->sources[0].implied);
    CHECK(s->sources[3].implied && s->sources[3].model == 0);
    CHECK_U64(s->base, 0);
    const lb_merge_setting *w = s->sources[0].settings.list;
    CHECK_U64(s->sources[0].settings.n, 1);
    CHECK_STR(s->sources[0].settings.where, "models[0].parameters");
    CHECK_STR(w->name, "weight");
    CHECK_U64(w->line, 4);
    CHECK(w->n_choices == 1 && w->choices->any && w->choices->value->type == LB_JSTRING);
    CHECK_U64(c->settings.n, 2);
    CHECK_U64(c->settings.list[1].choices->value->n, 3);
    CHECK_U64(c->n_notes, 1);
    CHECK(strstr(c->notes[0].ptr, "m.yml: line 12: random_seed: "));
}

LB_TEST(base_listed_and_absent) {
    const lb_merge_config *c = read_one("merge_method: slerp\nmodels: [{model: a}, {model: b}]\n"
                                        "base_model: b\nparameters: {t: 0.5}\n");
    if (c) {
        CHECK_U64(c->n_models, 2);
        check_ref(&c->models[0], "b|b||||");
        CHECK_U64(c->modules->slices->n_sources, 2);
        CHECK_U64(c->modules->slices->sources[0].model, 1);
    }
    c = read_one("merge_method: linear\nmodels: [{model: z}, {model: a}, {model: z}]\n"
                 "slices: null\nmodules: {}\nbase_model: null\n");
    if (c) {
        CHECK_U64(c->n_models, 2); /* in order of mention */
        check_ref(&c->models[0], "z|z||||");
        CHECK_U64(c->base, LB_NO_MODEL);
        CHECK_U64(c->modules->slices->base, LB_NO_MODEL);
        CHECK_U64(c->modules->slices->n_sources, 3);
        CHECK_U64(c->modules->slices->sources[2].model, 0);
    }
}

LB_TEST(slices_form) {
    const lb_merge_config *c = read_one("merge_method: passthrough\n"
                                        "base_model: donor\n"
                                        "slices:\n"
                                        "- sources:\n"
                                        "  - model: a\n"
                                        "    layer_range: [0, '4']\n"
                                        "    parameters: {scale: [{filter: o_proj, value: [1, 0]},"
                                        " {value: 1}]}\n"
                                        "- sources: [{model: b, layer_range: [4.0, 8]}]\n"
                                        "  base_model: b\n"
                                        "  residual_weight: 0.5\n"
                                        "  parameters: {scale: {filter: '*', value: 2}}\n"
                                        "- sources: [{model: a, layer_range: [8, 8]}]\n");
    if (!c)
        return;
    CHECK_U64(c->n_models, 3);
    check_ref(&c->models[0], "donor|donor||||");
    const lb_merge_slice *s = c->modules->slices;
    CHECK_U64(c->modules->n_slices, 3);
    CHECK_STR(s[1].where, "slices[1]");
    CHECK_U64(s[1].line, 8);
    CHECK(s[0].base == 0 && s[1].base == 2);
    CHECK(!s[0].sources->all && s[0].sources->first == 0 && s[0].sources->end == 4);
    CHECK(s[1].sources->first == 4 && s[1].sources->end == 8 && s[2].sources->end == 8);
    CHECK(s[1].residual_weight == 0.5);
    const lb_merge_setting *w = s[0].sources->settings.list;
    CHECK_U64(w->n_choices, 2);
    CHECK(!w->choices[0].any && w->choices[1].any);
    CHECK_STR(w->choices[0].filter, "o_proj");
    CHECK(s[1].settings.list->choices->any);
    CHECK_STR(s[1].settings.where, "slices[1].parameters");
    CHECK_U64(c->n_notes, 1);
}

LB_TEST(modules_form) {
    const lb_merge_config *c =
        read_one("merge_method: linear\n"
                 "base_model: b\n"
                 "modules:\n"
                 "  text_decoder:\n"
                 "    slices: [{sources: [{model: a, layer_range: [0, 1]}]}]\n"
                 "    models: []\n"
                 "  vision_tower:\n"
                 "    models: [{model: a}]\n"
                 "    parameters: {weight: 1}\n");
    if (!c)
        return;
    CHECK_U64(c->n_modules, 2);
    CHECK_STR(c->modules[0].name, "text_decoder");
    CHECK_STR(c->modules[0].slices->where, "modules.text_decoder.slices[0]");
    CHECK_U64(c->modules[0].slices->n_sources, 1);
    CHECK_U64(c->modules[1].slices->n_sources, 2);
    CHECK_STR(c->modules[1].slices->where, "modules.vision_tower.models");
    CHECK_STR(c->modules[1].settings.where, "modules.vision_tower.parameters");
}

LB_TEST(tokenizer) {
    const lb_merge_config *c =
        read_one("merge_method: linear\nmodels: [{model: a}, {model: b}]\n"
                 "chat_template: auto\n"
                 "tokenizer:\n"
                 "  source: c\n"
                 "  pad_to_multiple_of: '64'\n"
                 "  tokens:\n"
                 "    <a>: {source: b, force: 'on'}\n"
                 "    <b>: {source: {kind: model_token, model: b, token: <x>}}\n"
                 "    <c>: {source: {kind: model_token, model: b, token_id: 7.0}}\n"
                 "    <d>: {source: {kind: zero}}\n"
                 "    <e>: {}\n"
                 "    <f>: {source: {model: a}}\n");
    if (!c)
        return;
    CHECK_U64(c->n_models, 2);
    CHECK_U64(c->n_refs, 3);
    CHECK(c->vocab == LB_VOCAB_MODEL && c->vocab_model == 2);
    check_ref(&c->models[2], "c|c||||");
    CHECK_U64(c->pad_to_multiple_of, 64);
    CHECK_STR(c->chat_template, "auto");
    CHECK_U64(c->n_tokens, 6);
    const lb_merge_token *t = c->tokens;
    CHECK(t[0].from == LB_TOKEN_MODEL && t[0].model == 1 && t[0].force);
    CHECK(t[1].from == LB_TOKEN_TEXT && t[1].model == 1 && !t[1].force);
    CHECK_STR(t[1].text, "<x>");
    CHECK(t[2].from == LB_TOKEN_ID && t[2].model == 1 && t[2].id == 7);
    CHECK(t[3].from == LB_TOKEN_ZERO && t[4].from == LB_TOKEN_USUAL);
    CHECK(t[5].from == LB_TOKEN_MODEL && t[5].model == 0);
    CHECK_U64(t[3].line, 11);
    c = read_one("merge_method: linear\nmodels: [{model: a}]\ntokenizer_source: base\n");
    CHECK(c && c->vocab == LB_VOCAB_BASE);
    c = read_one("merge_method: linear\nmodels: [{model: a}]\ntokenizer_source: a\n");
    CHECK(c && c->vocab == LB_VOCAB_MODEL && c->vocab_model == 0 && c->n_refs == 1);
    c = read_one("merge_method: linear\nmodels: [{model: a}]\ntokenizer: {}\n");
    CHECK(c && c->vocab == LB_VOCAB_UNION);
    c = read_one("merge_method: linear\nmodels: [{model: a}]\ntokenizer_source: null\n");
    CHECK(c && c->vocab == LB_VOCAB_KEPT);
}

LB_TEST(raw_files) {
    lb_merge_file f;
    CHECK_OK(parse("merge_method: linear\nmodels:\n- model: a+b@c.safetensors\n  parameters: "
                   "{weight: 0}\n- model: d.bin\nbase_model: e.pt\n",
                   LB_MERGE_RAW, &f));
    CHECK(f.merges->raw && f.merges->n_models == 3);
    check_ref(&f.merges->models[1], "a+b@c.safetensors|a+b@c.safetensors||||");
    CHECK_U64(f.merges->modules->slices->n_sources, 3);
    CHECK_U64(parse("merge_method: linear\nmodels: [{model: a}]\ntokenizer_source: base\n",
                    LB_MERGE_RAW, &f),
              LB_E_FORMAT);
    CHECK(strstr(err.msg, "line 3"));
    CHECK_U64(parse("merge_method: linear\nmodels: [{model: {model: a}}]\n", LB_MERGE_RAW, &f),
              LB_E_FORMAT);
}

#define HEAD "merge_method: linear\nmodels: [{model: a}]\n"
#define SLICE "merge_method: linear\nslices:\n- sources:\n  - model: a\n"

static const struct {
    const char *text, *message;
} faults[] = {
    {"", "m.yml: is empty"},
    {"[]", "line 1: a merge file is a mapping"},
    {"models: [{model: a}]", "line 1: `merge_method` is missing"},
    {"merge_method: 5\nmodels: [{model: a}]", "line 1: merge_method: a text is needed"},
    {"merge_method: x", "line 1: one of `models`, `slices` and `modules` is needed"},
    {HEAD "slices: [{sources: [{model: a, layer_range: [0, 1]}]}]",
     "line 3: `slices` stands beside `models` (line 2)"},
    {"base_model: a\nexperts: [{source_model: b}]\n", "line 1: this is a file of mergekit-moe"},
    {"merge_method: x\nmodels: a", "line 2: models: a list of models is needed"},
    {"merge_method: x\nmodels:\n- a", "line 3: models[0]: a mapping with the keys model"},
    {"merge_method: x\nmodels:\n- {}", "line 3: models[0]: `model` is missing"},
    {"merge_method: x\nmodels:\n- model: 7",
     "line 3: models[0].model: the name of a model is needed: "
     "put it into quotation marks"},
    {"merge_method: x\nmodels:\n- model: a\n  layer_range: [0, 1]",
     "line 4: models[0]: `layer_range` stands in `slices` only"},
    {"merge_method: x\nmodels:\n- model: a\n  weight: 1",
     "line 4: models[0].weight: unknown key; here may stand model, parameters"},
    {"merge_method: x\nmodels:\n- model: a\n  paramters: {}",
     "line 4: models[0].paramters: unknown key; did you mean parameters?"},
    {HEAD "base_modle: b", "line 3: base_modle: unknown key; did you mean base_model?"},
    {HEAD "zzz: b", "line 3: zzz: unknown key; here may stand merge_method, base_model"},
    {HEAD "base_model: ''", "line 3: base_model: the name of a model is empty"},
    {HEAD "base_model: a+", "line 3: base_model: the name of a model is empty in ''"},
    {HEAD "base_model: a@", "line 3: base_model: a revision is missing behind '@' in 'a@'"},
    {HEAD "base_model: {path: a}", "line 3: base_model.path: unknown key"},
    {HEAD "base_model: {model: {path: a, revision: 5}}",
     "line 3: base_model.model.revision: a text is needed"},
    {HEAD "dtype: bf16",
     "line 3: dtype: 'bf16' is none of bfloat16, float16, float32, float64; did "
     "you mean bfloat16?"},
    {HEAD "out_dtype: int64", "line 3: out_dtype: 'int64' is none of"},
    {HEAD "dtype: 16", "line 3: dtype: a text is needed"},
    {HEAD "chat_template: chatlm",
     "line 3: chat_template: neither auto, alpaca, chatml, exaone, llama3, "
     "mistral nor a template; did you mean chatml?"},
    {HEAD "chat_template: 5", "line 3: chat_template: a text is needed"},
    {HEAD "parameters: []", "line 3: parameters: a mapping of parameters is needed"},
    {HEAD "parameters:\n  w: null", "line 4: parameters.w: has no value"},
    {HEAD "parameters:\n  w:\n", "line 4: parameters.w: has no value"},
    {HEAD "parameters:\n  w: {filter: x}", "line 4: parameters.w: `value` is missing"},
    {HEAD "parameters:\n  w: {value: 1, filter: 5}",
     "line 4: parameters.w.filter: a text is needed"},
    {HEAD "parameters:\n  w: {value: 1, fliter: x}",
     "line 4: parameters.w.fliter: unknown key; did you mean filter?"},
    {HEAD "parameters:\n  w:\n  - value: 1\n  - 2",
     "line 6: parameters.w[1]: a list may hold values only, or only mappings"},
    {HEAD "parameters:\n  w:\n  - 1\n  - value: 2",
     "line 6: parameters.w: a list may hold values only"},
    {HEAD "parameters:\n  w: [[1]]", "line 4: parameters.w: a list may hold values only"},
    {HEAD "parameters:\n  w: {value: {value: 1}}", "line 4: parameters.w.value: a value or a list"},
    {HEAD "parameters:\n  w: {value: null}", "line 4: parameters.w.value: a value or a list"},
    {HEAD "tokenizer_source: union\ntokenizer: {}",
     "line 3: tokenizer_source: stands beside `tokenizer` (line 4)"},
    {HEAD "tokenizer: {source: null}", "line 3: tokenizer.source: the name of a model is needed"},
    {HEAD "tokenizer: {token: {}}", "line 3: tokenizer.token: unknown key; did you mean tokens?"},
    {HEAD "tokenizer: {tokens: []}", "line 3: tokenizer.tokens: a mapping of tokens is needed"},
    {HEAD "tokenizer:\n  tokens:\n    <a>: x",
     "line 5: tokenizer.tokens.<a>: a mapping with the keys"},
    {HEAD "tokenizer: {tokens: {a: {source: {kind: zeor}}}}",
     "tokenizer.tokens.a.source.kind: model_token or zero is needed; did you mean zero?"},
    {HEAD "tokenizer: {tokens: {a: {source: {kind: model_token, model: b}}}}",
     "tokenizer.tokens.a.source: one of `token` and `token_id` is needed"},
    {HEAD
     "tokenizer: {tokens: {a: {source: {kind: model_token, model: b, token: c, token_id: 1}}}}",
     "tokenizer.tokens.a.source: one of `token` and `token_id` is needed, not both"},
    {HEAD "tokenizer: {tokens: {a: {source: {kind: model_token, model: b, token_id: -1}}}}",
     "tokenizer.tokens.a.source.token_id: the number of a token, from 0, is needed"},
    {HEAD "tokenizer:\n  tokens:\n    <a>: {source: z}",
     "line 5: tokenizer.tokens.<a>: model z is no input of the merge"},
    {HEAD "tokenizer: {tokens: {a: {force: 2}}}",
     "tokenizer.tokens.a.force: true or false is needed"},
    {HEAD "tokenizer: {tokens: {a: {force: true}}}",
     "tokenizer.tokens.a.force: `source` is missing"},
    {HEAD "tokenizer: {pad_to_multiple_of: 64.5}", "tokenizer.pad_to_multiple_of: a whole number"},
    {HEAD "tokenizer: {pad_to_multiple_of: -1}", "tokenizer.pad_to_multiple_of: a whole number"},
    {SLICE, "line 4: slices[0].sources[0]: `layer_range` is missing"},
    {SLICE "    layer_range: 0-4", "line 5: slices[0].sources[0].layer_range: two layers"},
    {SLICE "    layer_range: [0, 4, 5]", "line 5: slices[0].sources[0].layer_range: two layers"},
    {SLICE "    layer_range: [0, 4.5]", "layer_range: two whole numbers"},
    {SLICE "    layer_range: [4, 0]", "layer_range: [4, 0]: layers count from 0"},
    {SLICE "    layer_range: [-4, 0]", "layer_range: [-4, 0]: layers count from 0"},
    {SLICE "    layer_range: [0, 1]\n  residual_weight: x", "slices[0].residual_weight: a number"},
    {"merge_method: x\nslices: [{sources: []}]", "slices[0].sources: a list of models is needed"},
    {"merge_method: x\nslices: [{}]", "slices[0]: `sources` is missing"},
    {"merge_method: x\nslices: {a: 1}", "slices: a list of slices is needed"},
    {"merge_method: x\nmodules: {'': {models: [{model: a}]}}", "the name of a module is empty"},
    {"merge_method: x\nmodules: {a: {}}", "modules.a: one of `slices` and `models` is needed"},
    {"merge_method: x\nmodules: {a: {models: [{model: b}], slices: [{sources: []}]}}",
     "modules.a: one of `slices` and `models` is needed, not both"},
    {HEAD "parameters: {a: 1, a: 2}", "line 3: the key a stands twice in one mapping"},
    {"name: x\n" HEAD "---\nname: x\n" HEAD, "line 5: name: 'x' stands twice"},
    {HEAD "---\n" HEAD, "the documents of lines 1 and 4 have no `name`"},
    {"name: x/y\n" HEAD "---\n" HEAD, "line 1: name: 'x/y' is no plain name"},
    {"name: x\n" HEAD "---\nname: y\n" HEAD, "2 merges are used by no other ('x', 'y'...)"},
    {"name: x\n" HEAD "base_model: y\n---\nname: y\n" HEAD "base_model: x+l\n",
     "merges need each other in a circle: x -> y -> x"},
    {"name: x\n" HEAD "base_model: x\n---\n" HEAD, "merges need each other in a circle: x -> x"},
};

LB_TEST(each_fault_by_line_and_key) {
    for (u32 i = 0; i < LB_LEN(faults); i++) {
        lb_merge_file f;
        if (parse(faults[i].text, 0, &f) != LB_E_FORMAT)
            lb_test_fail(__FILE__, __LINE__, "%s: taken", faults[i].text);
        else if (!strstr(err.msg, faults[i].message) || strncmp(err.msg, "m.yml: ", 7) != 0 ||
                 strchr(err.msg, '\n'))
            lb_test_fail(__FILE__, __LINE__, "%s: %s, not %s", faults[i].text, err.msg,
                         faults[i].message);
    }
}

LB_TEST(several_documents) {
    lb_merge_file f;
    CHECK_OK(parse("name: second\nmerge_method: linear\nmodels: [{model: first+l}, {model: b}]\n"
                   "---\nmerge_method: linear\nmodels: [{model: second}, {model: third}]\n"
                   "tokenizer_source: first\n"
                   "---\nname: first\n" HEAD "---\nname: third\n" HEAD,
                   0, &f));
    CHECK_U64(f.n_merges, 4);
    CHECK_STR(f.merges[0].name, "first");
    CHECK_STR(f.merges[1].name, "third");
    CHECK_STR(f.merges[2].name, "second");
    CHECK_U64(f.merges[3].name.len, 0);
    CHECK_U64(f.merges[2].models[0].merge, 0);
    CHECK_U64(f.merges[2].models[1].merge, LB_NO_MERGE);
    CHECK_U64(f.merges[3].models[0].merge, 2);
    CHECK_U64(f.merges[3].models[1].merge, 1);
    CHECK_U64(f.merges[3].models[2].merge, 0); /* of the tokenizer */
    CHECK_U64(f.merges[3].n_models, 2);
    /* one document: its name binds nothing */
    CHECK_OK(parse("name: a\n" HEAD "---\n", 0, &f));
    CHECK_U64(f.n_merges, 1);
    CHECK_U64(f.merges->models->merge, LB_NO_MERGE);
    /* the result has a name, and stands first */
    CHECK_OK(
        parse("name: z\nmerge_method: linear\nmodels: [{model: y}]\n---\nname: y\n" HEAD, 0, &f));
    CHECK_STR(f.merges[1].name, "z");
    CHECK_U64(f.merges[1].models->merge, 0);
}

/* What pydantic's float, int and bool make of a scalar of YAML: NULL: refused. */
static const struct {
    const char *yaml, *as_float, *as_int, *as_bool;
} scalars[] = {
    {"1", "1", "1", "1"},
    {"0", "0", "0", "0"},
    {"2", "2", "2", NULL},
    {"1.0", "1", "1", "1"},
    {"1.5", "1.5", NULL, NULL},
    {"true", "1", "1", "1"},
    {"off", "0", "0", "0"},
    {"1e-5", "1e-05", NULL, NULL}, /* a text in YAML 1.1 */
    {"'1E5'", "100000", NULL, NULL},
    {"' 1 '", "1", "1", NULL},
    {"'1'", "1", "1", "1"},
    {"'1_0'", "10", "10", NULL},
    {"'1__0'", NULL, NULL, NULL},
    {"'_1'", NULL, NULL, NULL},
    {"'1_'", NULL, NULL, NULL},
    {"'1_0.5'", "10.5", NULL, NULL},
    {"'0x10'", NULL, NULL, NULL},
    {"'true'", NULL, NULL, "1"},
    {"'TRUE'", NULL, NULL, "1"},
    {"'n'", NULL, NULL, "0"},
    {"'Off'", NULL, NULL, "0"},
    {"'1.0'", "1", "1", NULL},
    {"'1.00'", "1", "1", NULL},
    {"'10'", "10", "10", NULL},
    {"'.5'", "0.5", NULL, NULL},
    {"'5.'", "5", NULL, NULL},
    {"'+1'", "1", "1", NULL},
    {"'-0.25'", "-0.25", NULL, NULL},
    {"'--1'", NULL, NULL, NULL},
    {"''", NULL, NULL, NULL},
    {"'.'", NULL, NULL, NULL},
    {"'1e'", NULL, NULL, NULL},
    {"'1e+'", NULL, NULL, NULL},
    {"'1e+2'", "100", NULL, NULL},
    {"'00'", "0", "0", NULL},
    {"'1,5'", NULL, NULL, NULL},
    {"'1 2'", NULL, NULL, NULL},
    {"'-Infinity'", "-inf", NULL, NULL},
    {"'1e400'", "inf", NULL, NULL},
    {".inf", "inf", NULL, NULL},
    {"9223372036854775807", "9.22337203685478e+18", "9223372036854775807", NULL},
    {"null", NULL, NULL, NULL},
    {"[1]", NULL, NULL, NULL},
};

static bool same(bool taken, const char *got, const char *want) {
    return want ? taken && strcmp(got, want) == 0 : !taken;
}

LB_TEST(scalars_as_pydantic) {
    for (u32 i = 0; i < LB_LEN(scalars); i++) {
        lb_merge_file f;
        char text[256], got[64];
        double x = 0;
        i64 n = 0;
        bool b = false;
        (void)snprintf(text, sizeof text, HEAD "parameters: {p: {value: %s}}", scalars[i].yaml);
        lb_json null = {.type = LB_JNULL}, list = {.type = LB_JARRAY};
        const lb_json *v = scalars[i].yaml[0] == 'n' ? &null : &list;
        if (v == &list && scalars[i].yaml[0] != '[') {
            CHECK_OK(parse(text, 0, &f));
            v = f.merges->settings.list->choices->value;
        }
        bool taken = lb_merge_as_float(v, &x);
        (void)snprintf(got, sizeof got, "%.15g", x);
        if (!same(taken, got, scalars[i].as_float))
            lb_test_fail(__FILE__, __LINE__, "%s as a float: %s", scalars[i].yaml, got);
        taken = lb_merge_as_int(v, &n);
        (void)snprintf(got, sizeof got, "%lld", (long long)n);
        if (!same(taken, got, scalars[i].as_int))
            lb_test_fail(__FILE__, __LINE__, "%s as an int: %s", scalars[i].yaml, got);
        taken = lb_merge_as_bool(v, &b);
        if (!same(taken, b ? "1" : "0", scalars[i].as_bool))
            lb_test_fail(__FILE__, __LINE__, "%s as a bool: %d", scalars[i].yaml, b);
    }
}

static const char whole[] =
    "name: n\nmerge_method: ties\nbase_model: b@r+l\nmodules:\n  m:\n    slices:\n"
    "    - sources: [{model: {model: a, lora: {path: x}}, layer_range: [0, 2]}]\n"
    "      parameters: {w: [{filter: q, value: [1, 2]}, {value: 3}]}\n"
    "  k: {models: [{model: c}], parameters: {t: 1}}\n"
    "tokenizer: {source: union, tokens: {t: {source: {kind: model_token, model: c, token: u}}}}\n"
    "dtype: float16\nrandom_seed: 1\n---\nmerge_method: linear\nmodels: [{model: n}]\n";

LB_TEST(every_prefix_and_failing_memory) {
    for (size_t n = 0; n < sizeof whole; n++) {
        lb_arena a = {0};
        lb_merge_file f;
        (void)lb_merge_file_parse((lb_str){whole, n}, "t", 0, &a, &f, NULL);
        (void)lb_merge_file_parse((lb_str){whole, n}, "t", LB_MERGE_RAW, &a, &f, NULL);
        lb_arena_deinit(&a);
    }
    u32 failed = 0;
    for (u64 n = 1; n < 60; n++) {
        lb_arena a = {0};
        lb_merge_file f;
        lb_mem_fail_at(n);
        lb_status st = lb_merge_file_parse(lb_str_c(whole), "t", 0, &a, &f, NULL);
        lb_mem_fail_at(0);
        CHECK(st == LB_OK || st == LB_E_NOMEM);
        failed += st == LB_E_NOMEM;
        lb_arena_deinit(&a);
    }
    CHECK(failed > 3);
}

LB_TEST_MAIN("fast")
