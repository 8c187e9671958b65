//! What stands before the camera: every mesh of a face, in a fixed order.

use crate::factors::Factors;
use crate::geometry::{self, Material, Mesh};
use crate::rig::Rig;
use crate::wear;

/// How a mesh is drawn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Act {
    pub material: Material,
    /// Whether its back is seen.
    pub both_sides: bool,
}

/// Hands every mesh to `place`, made in `mesh`. Glasses are apart: see [`crate::glasses`].
pub(crate) fn meshes(f: &Factors, rig: &Rig, mesh: &mut Mesh, mut place: impl FnMut(&Mesh, Act)) {
    let act = |material, both_sides| Act {
        material,
        both_sides,
    };
    geometry::head(rig, mesh);
    place(mesh, act(Material::Head, false));
    for side in [-1.0, 1.0] {
        geometry::ear(rig, side, mesh);
        place(mesh, act(Material::Ear, false));
    }
    let chin = rig.head.chin_y;
    let neck = rig.head.neck;
    geometry::barrel(
        (-0.30, -1.9),
        ((0.41 * neck, 0.38), (0.49 * neck, 0.46)),
        -0.12,
        1.75,
        mesh,
    );
    place(mesh, act(Material::Neck, false));
    geometry::barrel(
        (chin.min(-1.05) - 0.22, chin.min(-1.05) - 0.75),
        ((0.50, 0.42), (1.60, 0.70)),
        -0.22,
        1.75,
        mesh,
    );
    place(mesh, act(Material::Clothes, false));
    if let Some(bottom) = rig.head.curtain {
        geometry::curtain(rig, bottom, mesh);
        place(mesh, act(Material::Curtain, true));
    }
    if f.disguise.mask >= 0.5 {
        wear::mask(rig, mesh);
        place(mesh, act(Material::Mask, true));
    }
    if f.disguise.scarf >= 0.5 {
        wear::scarf(rig, mesh);
        place(mesh, act(Material::Scarf, false));
    }
    if f.disguise.hat >= 0.5 {
        wear::hat(rig, mesh);
        place(mesh, act(Material::Hat, false));
    }
}
