//! Seeded forms of candle-nn's initialisations, drawn on the CPU so that every device starts alike.

use candle::{DType, Device, Result, Shape, Tensor, Var};
use candle_nn::Init;
use candle_nn::init::NormalOrUniform;
use rand::{Rng, RngExt};

/// A new variable with values drawn from `rng`; the meaning of each [`Init`] is candle-nn's (and so PyTorch's):
/// Kaiming has standard deviation `gain / sqrt(fan)`.
pub(crate) fn variable<R: Rng>(
    init: &Init,
    shape: &Shape,
    dtype: DType,
    device: &Device,
    rng: &mut R,
) -> Result<Var> {
    let tensor = match *init {
        Init::Const(value) => Tensor::full(value, shape.clone(), &Device::Cpu)?.to_dtype(dtype)?,
        Init::Uniform { lo, up } => uniform(lo, up, shape, dtype, rng)?,
        Init::Randn { mean, stdev } => normal(mean, stdev, shape, dtype, rng)?,
        Init::Kaiming {
            dist,
            fan,
            non_linearity,
        } => {
            // A fan of zero belongs to a tensor without elements; any deviation will do.
            let fan = fan.for_shape(shape).max(1) as f64;
            let deviation = non_linearity.gain() / fan.sqrt();
            match dist {
                NormalOrUniform::Uniform => {
                    let bound = 3f64.sqrt() * deviation;
                    uniform(-bound, bound, shape, dtype, rng)?
                }
                NormalOrUniform::Normal => normal(0., deviation, shape, dtype, rng)?,
            }
        }
    };
    Var::from_tensor(&tensor.to_device(device)?.contiguous()?)
}

fn uniform<R: Rng>(lo: f64, up: f64, shape: &Shape, dtype: DType, rng: &mut R) -> Result<Tensor> {
    draw(shape, dtype, || lo + (up - lo) * rng.random::<f64>())
}

/// Box and Muller's transform: two normal numbers from two uniform ones.
fn normal<R: Rng>(
    mean: f64,
    deviation: f64,
    shape: &Shape,
    dtype: DType,
    rng: &mut R,
) -> Result<Tensor> {
    let mut spare = None;
    draw(shape, dtype, || {
        let z = spare.take().unwrap_or_else(|| {
            // 1 - u lies in (0, 1], where the logarithm is finite.
            let radius = (-2. * (1. - rng.random::<f64>()).ln()).sqrt();
            let (sin, cos) = (std::f64::consts::TAU * rng.random::<f64>()).sin_cos();
            spare = Some(radius * sin);
            radius * cos
        });
        mean + deviation * z
    })
}

fn draw(shape: &Shape, dtype: DType, mut next: impl FnMut() -> f64) -> Result<Tensor> {
    let count = shape.elem_count();
    match dtype {
        DType::F32 => {
            let values: Vec<f32> = (0..count).map(|_| next() as f32).collect();
            Tensor::from_vec(values, shape.clone(), &Device::Cpu)
        }
        DType::F64 | DType::F16 | DType::BF16 => {
            let values: Vec<f64> = (0..count).map(|_| next()).collect();
            Tensor::from_vec(values, shape.clone(), &Device::Cpu)?.to_dtype(dtype)
        }
        _ => candle::bail!(
            "random initialisation of a {} tensor: a float type is needed",
            dtype.as_str()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Streams;

    fn moments(init: Init, shape: (usize, usize)) -> (f64, f64, f64, f64) {
        let mut rng = Streams::new(3).rng("t", 0);
        let var = variable(
            &init,
            &Shape::from(shape),
            DType::F64,
            &Device::Cpu,
            &mut rng,
        )
        .unwrap();
        let v = var.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let n = v.len() as f64;
        let mean = v.iter().sum::<f64>() / n;
        let sd = (v.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
        (
            mean,
            sd,
            v.iter().copied().fold(f64::MAX, f64::min),
            v.iter().copied().fold(f64::MIN, f64::max),
        )
    }

    #[test]
    fn moments_are_those_of_the_distribution() {
        let (mean, sd, lo, up) = moments(Init::Uniform { lo: -1., up: 3. }, (200, 200));
        assert!(
            (mean - 1.).abs() < 0.03 && (sd - 4. / 12f64.sqrt()).abs() < 0.02,
            "{mean} {sd}"
        );
        assert!(lo >= -1. && up <= 3. && lo < -0.99 && up > 2.99);
        let (mean, sd, ..) = moments(
            Init::Randn {
                mean: 2.,
                stdev: 0.5,
            },
            (200, 200),
        );
        assert!(
            (mean - 2.).abs() < 0.01 && (sd - 0.5).abs() < 0.01,
            "{mean} {sd}"
        );
        let (mean, sd, ..) = moments(candle_nn::init::DEFAULT_KAIMING_NORMAL, (400, 100));
        assert!(
            mean.abs() < 0.003 && (sd - (2. / 100f64).sqrt()).abs() < 0.003,
            "{mean} {sd}"
        );
        let (_, sd, lo, up) = moments(candle_nn::init::DEFAULT_KAIMING_UNIFORM, (400, 100));
        assert!((sd - (2. / 100f64).sqrt()).abs() < 0.003);
        let bound = (6. / 100f64).sqrt();
        assert!(lo >= -bound && up <= bound);
        assert_eq!(moments(Init::Const(0.25), (4, 4)), (0.25, 0., 0.25, 0.25));
    }

    #[test]
    fn integers_take_constants_only() {
        let mut rng = Streams::new(3).rng("t", 0);
        let shape = Shape::from(());
        let count = variable(&Init::Const(3.), &shape, DType::I64, &Device::Cpu, &mut rng).unwrap();
        assert_eq!(count.to_scalar::<i64>().unwrap(), 3);
        let random = variable(
            &Init::Randn {
                mean: 0.,
                stdev: 1.,
            },
            &shape,
            DType::I64,
            &Device::Cpu,
            &mut rng,
        );
        assert!(random.unwrap_err().to_string().contains("float"));
    }
}
