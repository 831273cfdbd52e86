// The system of infra/README.md by the AWS CDK. Each template is included as it is and stays the only definition: stacks and logical ids are
// those that `aws cloudformation deploy` makes, so either can update what the other has created.

import { App, Stack, Tags } from 'aws-cdk-lib';
import { CfnInclude } from 'aws-cdk-lib/cloudformation-include';

type Parameters = Record<string, string | string[]>;

/** The stack of a template. A parameter that is not given has the template's default. */
class Streambox extends Stack {
  constructor(app: App, name: string, parameters: Parameters, after: Stack[] = []) {
    super(app, `streambox-${name}`);
    new CfnInclude(this, 'Template', { templateFile: `../${name}.yaml`, parameters });
    Tags.of(this).add('application', 'streambox');
    after.forEach((stack) => this.addStackDependency(stack));
  }
}

const app = new App();

/** What is yours, in the section "context" of cdk.json. */
function given(name: string): string {
  const value = app.node.tryGetContext(name);
  if (typeof value !== 'string' || value === '') throw new Error(`set ${name} in the section "context" of cdk.json`);
  return value;
}

const vpc = { VpcId: given('vpc') };
const subnets = given('subnets').split(',');
const topic = { AlarmTopicArn: given('topic') };

// The table outlives every relay: in production it is an app of its own.
const table = new Streambox(app, 'table', {});
// For consumers that keep an inbox; without them leave it out, and InboxStack of the next stack.
const inbox = new Streambox(app, 'inbox', {});
const roles = new Streambox(app, 'roles', { InboxStack: inbox.stackName }, [table, inbox]);
const repository = new Streambox(app, 'repository', {});
const broker = new Streambox(app, 'broker', { ...vpc, ...topic, SubnetIds: subnets.slice(0, 1) });
new Streambox(app, 'monitoring', topic, [table]);

// Texts, and no imports of the repository's exports: a template's condition on a parameter takes nothing else.
if (app.node.tryGetContext('image')) {
  const image = { Image: given('image'), RepositoryArn: given('repository') };
  new Streambox(
    app,
    'relay',
    { ...vpc, ...image, SubnetIds: subnets, BrokerStack: broker.stackName },
    [table, roles, repository, broker],
  );
}

app.synth();
