//! Networks with their norms folded into the weights give what they gave before.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use candle::{DType, Result, Tensor};
use candle_nn::ModuleT;
use common::{filled, images};
use phiz_backbones::{
    ExpressionNet, ExpressionNetConfig, IResNet, IResNetConfig, MobileFaceNet, MobileFaceNetConfig,
};

/// The largest difference over the largest value.
fn apart(a: &Tensor, b: &Tensor) -> Result<f64> {
    let largest = |t: &Tensor| -> Result<f64> {
        let t = t.abs()?.max_all()?.to_dtype(DType::F64)?;
        t.to_scalar::<f64>()
    };
    assert_eq!(a.dims(), b.dims());
    let size = largest(a)?;
    assert!(size > 0.0 && size.is_finite(), "{size}");
    Ok(largest(&(a - b)?)? / size)
}

fn bound(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 1e-10,
        _ => 1e-4,
    }
}

#[test]
fn iresnet() -> Result<()> {
    // Blocks with and without a shortcut of their own; more than one image, and one.
    let config = IResNetConfig {
        image_size: 32,
        in_channels: 3,
        embedding_dim: 24,
        base_channels: 8,
        dropout: 0.,
    };
    for dtype in [DType::F64, DType::F32] {
        let network = IResNet::new([2, 1, 2, 1], config, filled(dtype).0)?;
        let folded = network.folded()?;
        for batch in [1, 3] {
            let x = images(&[batch, 3, 32, 32], dtype);
            let (a, b) = (network.forward_t(&x, false)?, folded.forward_t(&x, false)?);
            let apart = apart(&a, &b)?;
            assert!(apart < bound(dtype), "{dtype:?}: {apart}");
            // Folding twice changes nothing.
            let again = folded.folded()?.forward_t(&x, false)?;
            assert_eq!(
                (again - b)?
                    .abs()?
                    .max_all()?
                    .to_dtype(DType::F64)?
                    .to_scalar::<f64>()?,
                0.0
            );
        }
        let x = images(&[2, 3, 32, 32], dtype);
        let message = folded.forward_t(&x, true).unwrap_err().to_string();
        assert!(message.contains("cannot be trained"), "{message}");
    }
    Ok(())
}

#[test]
fn mobile_face_net() -> Result<()> {
    for blocks in [[1, 2, 1, 1], [2, 1, 1, 1]] {
        let config = MobileFaceNetConfig {
            image_size: 32,
            in_channels: 3,
            embedding_dim: 16,
            blocks,
            scale: 1,
        };
        for dtype in [DType::F64, DType::F32] {
            let network = MobileFaceNet::new(config, filled(dtype).0)?;
            let x = images(&[2, 3, 32, 32], dtype);
            let (a, b) = (
                network.forward_t(&x, false)?,
                network.folded()?.forward_t(&x, false)?,
            );
            let apart = apart(&a, &b)?;
            assert!(apart < bound(dtype), "{blocks:?} {dtype:?}: {apart}");
        }
    }
    Ok(())
}

#[test]
fn expression_net() -> Result<()> {
    let config = ExpressionNetConfig {
        width: 0.5,
        image_size: 48,
        grid: 2,
        ..Default::default()
    };
    for dtype in [DType::F64, DType::F32] {
        let network = ExpressionNet::new(config, filled(dtype).0)?;
        let folded = network.folded()?;
        let x = images(&[3, 3, 48, 48], dtype);
        let (a, b) = (network.forward_t(&x, false)?, folded.forward_t(&x, false)?);
        let c = folded.classify(&x)?;
        for (a, b) in [
            (&a.features, &b.features),
            (&a.logits, &b.logits),
            (&a.metric_embedding, &b.metric_embedding),
            (&a.classification_embedding, &c.embedding),
            (&a.logits, &c.logits),
        ] {
            let apart = apart(a, b)?;
            assert!(apart < bound(dtype), "{dtype:?}: {apart}");
        }
        assert!(folded.forward_t(&x, true).is_err());
    }
    Ok(())
}
