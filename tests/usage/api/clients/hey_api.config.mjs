export default { input: "openapi.yaml", output: { path: "made", importFileExtension: ".js" } };
