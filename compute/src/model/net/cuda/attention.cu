// Attention of `attention.rs` for NVIDIA's GPUs, compiled when a model is first run there, for its
// shapes. The program that includes it defines, as whole numbers:
//   D_HEAD    the width of a head
//   N_KV      key and value heads
//   N_GROUPS  query heads a key head
//
// A warp takes a row of queries, and of it up to four heads that share a key head. It goes over the
// positions that the query sees 32 at a time: each lane scores one of them, and then all lanes add
// up the values. The softmax is corrected as larger scores are met (Milakov and Gimelshein, 2018).

// Less than every score.
#define NONE __int_as_float(0xff800000)
// As in Rust.
#define WARPS 8u
#define MOST_HEADS 4

#define N_HEADS (N_GROUPS < MOST_HEADS ? N_GROUPS : MOST_HEADS)
#define D_KEYS (N_KV * D_HEAD)
#define D_QUERIES (N_KV * N_GROUPS * D_HEAD)
// Columns of the values that a lane adds up.
#define N_OWN ((D_HEAD + 31) / 32)

// Columns of a key that are read at once, where rows are so many bytes long that it may be.
#if D_HEAD % 8 == 0
#define N_COLUMNS N_READ
typedef Read Columns;
#else
#define N_COLUMNS 1
struct Columns { number x[1]; };
#endif

// Where the keys and values of a row's run are, and which position the row is.
struct Place {
    unsigned shared; // the row of position 0 among the shared ones
    unsigned n_shared; // how many positions are read from there
    unsigned own; // the row of the position after those among the others
    unsigned position;
};

__device__ __forceinline__ size_t start_of(const Place &place, unsigned position, unsigned head) {
    unsigned row = position < place.n_shared ? place.shared + position
                                             : place.own + position - place.n_shared;
    return (size_t)row * D_KEYS + head * D_HEAD;
}

extern "C" __global__ void attend_rows(
    const number *queries, // [rows, D_QUERIES]
    const number *shared_keys, const number *shared_values, // [shared rows, D_KEYS]
    const number *own_keys, const number *own_values, // [own rows, D_KEYS]
    const Place *places, // [rows]
    number *out, // [rows, D_QUERIES]
    unsigned n_rows,
    float scale,
    unsigned window, // positions that a query sees, 0 for all before it
    float cap // of scores, 0 for none
) {
    __shared__ float all_queries[WARPS][N_HEADS][D_HEAD];
    unsigned lane = threadIdx.x, row = blockIdx.x * WARPS + threadIdx.y;
    if (row >= n_rows) return;
    unsigned kv = blockIdx.y, first_head = blockIdx.z * N_HEADS;
    unsigned n_heads = min((unsigned)N_HEADS, N_GROUPS - first_head);
    size_t start = (size_t)row * D_QUERIES + (kv * N_GROUPS + first_head) * D_HEAD;
    float(*query)[D_HEAD] = all_queries[threadIdx.y];
    for (unsigned i = lane; i < N_HEADS * D_HEAD; i += LANES) {
        bool is_there = i < n_heads * D_HEAD;
        query[i / D_HEAD][i % D_HEAD] = is_there ? scale * widened(queries[start + i]) : 0.0f;
    }
    __syncwarp();

    Place place = places[row];
    unsigned end = place.position + 1;
    float largest[N_HEADS], total[N_HEADS], mixed[N_HEADS][N_OWN];
#pragma unroll
    for (int h = 0; h < N_HEADS; h++) {
        largest[h] = NONE;
        total[h] = 0.0f;
#pragma unroll
        for (int i = 0; i < N_OWN; i++) mixed[h][i] = 0.0f;
    }
    for (unsigned begin = window && end > window ? end - window : 0; begin < end; begin += LANES) {
        unsigned n_seen = min(LANES, end - begin);
        bool sees = lane < n_seen;
        unsigned position = sees ? begin + lane : begin;
        const number *key = (position < place.n_shared ? shared_keys : own_keys)
            + start_of(place, position, kv);
        float score[N_HEADS];
#pragma unroll
        for (int h = 0; h < N_HEADS; h++) score[h] = 0.0f;
#pragma unroll 4
        for (int d = 0; d < D_HEAD; d += N_COLUMNS) {
            Columns columns = *(const Columns *)(key + d);
#pragma unroll
            for (int i = 0; i < N_COLUMNS; i++) {
                float x = widened(columns.x[i]);
#pragma unroll
                for (int h = 0; h < N_HEADS; h++) score[h] += query[h][d + i] * x;
            }
        }
        float weight[N_HEADS];
#pragma unroll
        for (int h = 0; h < N_HEADS; h++) {
            float x = cap > 0.0f ? cap * tanhf(score[h] / cap) : score[h];
            float most = sees ? x : NONE;
            for (int step = 16; step > 0; step /= 2)
                most = fmaxf(most, __shfl_xor_sync(ALL, most, step));
            most = fmaxf(most, largest[h]);
            weight[h] = sees ? expf(x - most) : 0.0f;
            float sum = weight[h];
            for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(ALL, sum, step);
            float correction = expf(largest[h] - most);
            total[h] = total[h] * correction + sum;
            largest[h] = most;
#pragma unroll
            for (int i = 0; i < N_OWN; i++) mixed[h][i] *= correction;
        }
        for (unsigned j = 0; j < n_seen; j++) {
            position = begin + j;
            const number *value = (position < place.n_shared ? shared_values : own_values)
                + start_of(place, position, kv);
            float x[N_OWN];
#pragma unroll
            for (int i = 0; i < N_OWN; i++) {
                unsigned column = i * LANES + lane;
                x[i] = column < D_HEAD ? widened(value[column]) : 0.0f;
            }
#pragma unroll
            for (int h = 0; h < N_HEADS; h++) {
                float w = __shfl_sync(ALL, weight[h], j);
#pragma unroll
                for (int i = 0; i < N_OWN; i++) mixed[h][i] += w * x[i];
            }
        }
    }
    for (int h = 0; h < N_HEADS; h++) {
        if (h >= n_heads) break;
        for (int i = 0; i < N_OWN; i++) {
            unsigned column = i * LANES + lane;
            if (column < D_HEAD) out[start + h * D_HEAD + column] = rounded(mixed[h][i] / total[h]);
        }
    }
}
