/* From a checked program to a model for one instruction set: what is fused, what is repacked, where maps lie. */
#include "model.h"

#include <string.h>

#include "plan.h"

/* The norm that conv `i` can compute on its way: the first that reads it. */
static int32_t norm_of(const ob_program *program, int32_t i) {
    for (int32_t j = i + 1; j < program->count; j++)
        if (program->operations[j].kind == OB_NORM && program->operations[j].source == i) return j;
    return -1;
}

/* Plan convolution `op`: for the matrix unit if there is one, else for tables; 0: plain loops. `layer` may be NULL. */
static int plan(const ob_program *program, const ob_isa *isa, const ob_operation *op, ob_table_layer *layer) {
    const ob_value *source = &program->operations[op->source].value;
    return (isa->matrix && ob_matrix_plan(op, source, layer)) || (isa->table && ob_plan(op, source, isa->table, layer));
}

static void *copied(ob_memory *memory, const void *from, uint64_t bytes) {
    void *to = ob_take(memory, bytes);
    if (to) memcpy(to, from, (size_t)bytes);
    return to;
}

/* Mean, multiplier and offset of each channel as numbers of this machine. */
static const int16_t *norm_constants(const ob_operation *op, ob_memory *memory) {
    int16_t *to = ob_take(memory, (uint64_t)op->value.channels * 3 * sizeof *to);
    for (int32_t n = 0; to && n < op->value.channels; n++)
        for (int32_t i = 0; i < 3; i++) {
            const uint8_t *row = op->rows + (size_t)n * (size_t)op->row_bytes;
            to[3 * n + i] = (int16_t)(2 * i < op->row_bytes ? ob_read16(row + 2 * i) : 0);
        }
    return to;
}

static uint64_t bytes_of_rows(const ob_operation *op) {
    const uint64_t rows = op->kind == OB_AVERAGE ? (uint64_t)op->height * (uint64_t)op->width : (uint64_t)op->value.channels;
    return rows * (uint64_t)op->row_bytes;
}

/* Everything of step i but where its map lies; `layer` is planned, NULL where plain loops compute it. */
static void make_step(const ob_program *program, const ob_isa *isa, int32_t i, ob_table_layer *layer, ob_step *step,
                      ob_memory *memory) {
    const ob_operation *op = &program->operations[i];
    const ob_value *v = &op->value;
    step->operation = *op;
    step->map = (ob_map){.type = v->type, .channels = v->channels, .height = v->height, .width = v->width,
                         .pitch = ob_pitch(v->width)};
    step->map.plane = ((size_t)step->map.pitch * (size_t)v->height + OB_TABLE_STRIP - 1) / OB_TABLE_STRIP * OB_TABLE_STRIP;
    if (layer) {
        layer->has_norm = step->fused >= 0;
        layer->keeps = step->kept;
        if (layer->has_norm) {
            const ob_operation *norm = &program->operations[step->fused];
            layer->norm = norm_constants(norm, memory);
            layer->norm_zero = norm->zero, layer->norm_limit = norm->limit, layer->norm_offsets = norm->zero != 0;
            for (int32_t n = 0; layer->norm && n < v->channels; n++) layer->norm_offsets |= layer->norm[3 * n + 2] != 0;
        }
        const ob_value *source = &program->operations[op->source].value;
        if (layer->matrix_bytes) ob_matrix_plan_memory(op, source, layer, memory);
        else ob_plan_memory(op, source, isa->table, layer, memory);
        step->layer = copied(memory, layer, sizeof *layer);
        step->operation.rows = NULL;
        return;
    }
    if (op->kind == OB_NORM) {
        if (step->fused < 0) step->norm = norm_constants(op, memory);
        if (isa->table) return;
    }
    if (op->kind == OB_MAX) return;
    step->operation.rows = copied(memory, op->rows, bytes_of_rows(op));
    if (op->kind == OB_LOGITS) step->operation.gains = copied(memory, op->gains, (uint64_t)v->channels * 8);
}

static uint64_t bytes_of(const ob_map *map) {
    return (uint64_t)map->plane * (uint64_t)map->channels * (map->type == OB_U8 ? 1 : 2);
}

/* Lay the maps into one piece of memory, first fit, lifetimes not overlapping. `next` and `last` have a number a step. */
static uint64_t place_maps(ob_step *steps, int32_t count, int32_t *last, int32_t *next) {
    uint64_t most = 0;
    int32_t first = -1; /* the list of maps that live, in the order of their places */
    for (int32_t i = 0; i < count; i++) last[i] = i;
    for (int32_t i = 1; i < count; i++) {
        if (steps[i].operation.kind == OB_NORM && steps[i].fused >= 0) continue;
        last[steps[i].operation.source] = i;
        if (steps[i].operation.kind == OB_CONV && steps[i].operation.base >= 0) last[steps[i].operation.base] = i;
    }
    for (int32_t i = 0; i < count; i++) {
        for (int32_t *link = &first; *link >= 0;) /* who is not read from here on makes room */
            if (last[*link] < i) *link = next[*link];
            else link = &next[*link];
        if (steps[i].operation.kind == OB_NORM && steps[i].fused >= 0) continue; /* placed with its convolution */
        const int32_t base = steps[i].operation.kind == OB_CONV ? steps[i].operation.base : -1;
        const int32_t values[2] = {steps[i].kept ? i : -1, steps[i].operation.kind == OB_CONV ? steps[i].fused : -1};
        for (int32_t k = 0; k < 2; k++) {
            const int32_t v = values[k];
            if (v < 0) continue;
            if (k == 0 && base >= 0 && base != steps[i].operation.source && last[base] == i) {
                /* a sum takes the place of its base, which nobody else reads: each number is read before it is written */
                steps[v].at = steps[base].at;
                int32_t *link = &first;
                while (*link != base) link = &next[*link];
                *link = v, next[v] = next[base];
                continue;
            }
            const uint64_t bytes = (bytes_of(&steps[v].map) + OB_ALIGNMENT - 1) & ~(uint64_t)(OB_ALIGNMENT - 1);
            uint64_t at = 0;
            int32_t *link = &first;
            while (*link >= 0) {
                const uint64_t begin = steps[*link].at;
                if (begin >= at + bytes) break;
                at = begin + ((bytes_of(&steps[*link].map) + OB_ALIGNMENT - 1) & ~(uint64_t)(OB_ALIGNMENT - 1));
                link = &next[*link];
            }
            steps[v].at = at;
            next[v] = *link, *link = v;
            if (most < at + bytes) most = at + bytes;
        }
    }
    return most;
}

static void build(const ob_program *program, const ob_isa *isa, ob_memory *memory) {
    const int32_t count = program->count;
    ob_model *model = ob_take(memory, sizeof *model);
    ob_step *steps = ob_take(memory, (uint64_t)count * sizeof *steps);
    int32_t *marks = ob_take(memory, (uint64_t)count * 2 * sizeof *marks);
    uint64_t scratch = OB_ALIGNMENT;
    for (int32_t i = 0; i < count; i++) {
        ob_step one = {.fused = -1, .kept = 1};
        const ob_operation *op = &program->operations[i];
        ob_table_layer layer;
        int planned = 0;
        if (op->kind == OB_CONV) {
            if ((planned = plan(program, isa, op, &layer))) {
                one.fused = norm_of(program, i);
                one.kept = one.fused < 0;
                for (int32_t j = i + 1; j < count && !one.kept; j++)
                    one.kept = j != one.fused && (program->operations[j].source == i || program->operations[j].base == i);
                const size_t bytes = ob_table_scratch(&layer);
                if (scratch < bytes) scratch = bytes;
            }
        }
        if (op->kind == OB_NORM) {
            const ob_operation *from = &program->operations[op->source];
            if (from->kind == OB_CONV && norm_of(program, op->source) == i && plan(program, isa, from, NULL))
                one.fused = op->source;
        }
        if (op->kind == OB_LOGITS) { /* sums of each channel */
            const uint64_t bytes = (uint64_t)program->operations[op->source].value.channels * sizeof(int32_t);
            if (scratch < bytes) scratch = bytes;
        }
        make_step(program, isa, i, planned ? &layer : NULL, &one, memory);
        if (steps) steps[i] = one;
    }
    if (!model || !steps || !marks) return;
    *model = (ob_model){.isa = isa, .count = count, .steps = steps};
    ob_program_shape(program, &model->shape);
    model->maps = place_maps(steps, count, marks, marks + count);
    model->scratch = (scratch + OB_ALIGNMENT - 1) & ~(uint64_t)(OB_ALIGNMENT - 1);
}

size_t ob_model_size(const ob_program *program, const char *isa) {
    const ob_isa *found = ob_isa_find(isa);
    ob_memory memory = {0};
    if (!program || !found) return 0;
    build(program, found, &memory);
    return memory.used <= SIZE_MAX ? (size_t)memory.used : 0;
}

ob_status ob_model_build(const ob_program *program, const char *isa, void *memory, size_t memory_bytes,
                         ob_model **model) {
    const ob_isa *found = ob_isa_find(isa);
    if (!program || !memory || !model || (uintptr_t)memory % OB_ALIGNMENT) return OB_ERROR_ARGUMENT;
    *model = NULL;
    if (!found) return OB_ERROR_ISA;
    ob_memory all = {.base = memory, .size = memory_bytes};
    build(program, found, &all);
    if (all.used > all.size) return OB_ERROR_MEMORY;
    *model = memory;
    return OB_OK;
}

const char *ob_model_isa(const ob_model *model) { return model->isa->name; }

void ob_model_shape(const ob_model *model, ob_shape *shape) { *shape = model->shape; }

ob_status ob_model_layer(const ob_model *model, int32_t i, ob_layer *layer) {
    static const char *const names[] = {"table", "conv", "norm", "average", "max", "logits"};
    if (!model || !layer || i < 0 || i >= model->count) return OB_ERROR_ARGUMENT;
    const ob_step *step = &model->steps[i];
    const ob_operation *op = &step->operation;
    const ob_value *source = i ? &model->steps[op->source].operation.value : &op->value;
    *layer = (ob_layer){.operation = names[op->kind], .kernel = "loops", .channels = op->value.channels,
                        .height = op->value.height, .width = op->value.width, .source_channels = source->channels,
                        .kernel_height = op->height, .kernel_width = op->width, .stride = op->stride};
    const int64_t weights = (int64_t)source->channels * op->height * op->width * op->value.channels;
    if (op->kind == OB_CONV) layer->macs = weights * op->value.height * op->value.width;
    if (op->kind == OB_LOGITS) layer->macs = weights;
    if (step->layer) layer->group = step->layer->bits;
    if (step->layer) layer->kernel = step->layer->matrix ? "matrix unit" : step->layer->nibble ? "tables of 4 bits" : step->layer->high_chunks ? "tables of 2 x 8 bits" : "tables of 8 bits";
    if (op->kind == OB_NORM && step->fused >= 0) layer->kernel = "fused";
    else if (!step->layer && op->kind != OB_CONV && model->isa->table) layer->kernel = "vectors";
    return OB_OK;
}
